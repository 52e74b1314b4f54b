"""Small real tokenizers: one trained with sentencepiece, one with tokenizers, and SmolLM2's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from text_files import CORPUS, SPECIAL, write
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from mlxrun.text.opening import gguf_tokenizer
from mlxrun.text.tokenizer import Tokenizer
from mlxrun.weights.gguf import read_gguf


@pytest.fixture(scope="session")
def smollm2_metadata(smollm2_gguf: Path) -> dict[str, Any]:
    return read_gguf(smollm2_gguf).metadata


@pytest.fixture(scope="session")
def smollm2(smollm2_metadata: dict[str, Any]) -> Tokenizer:
    return gguf_tokenizer(smollm2_metadata)


@pytest.fixture(scope="session")
def spm_model() -> bytes:
    """With byte fallback and a control token of its own, and without any normalisation, as Llama's."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=out,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        character_coverage=0.98,
        control_symbols=["[INST]"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    return out.getvalue()


@pytest.fixture(scope="session")
def spm(spm_model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=spm_model)


@pytest.fixture(scope="session")
def spm_folder(spm_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spm")
    (folder / "tokenizer.model").write_bytes(spm_model)
    return folder


@pytest.fixture(scope="session")
def spm_metadata(spm: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
    """The same vocabulary as a GGUF file tells it."""
    count = spm.get_piece_size()
    tests = ((spm.is_unknown, 2), (spm.is_control, 3), (spm.is_unused, 5), (spm.is_byte, 6))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [spm.id_to_piece(i) for i in range(count)],
        "tokenizer.ggml.scores": [spm.get_score(i) for i in range(count)],
        "tokenizer.ggml.token_type": [next((k for t, k in tests if t(i)), 1) for i in range(count)],
        "tokenizer.ggml.bos_token_id": spm.bos_id(),
        "tokenizer.ggml.eos_token_id": spm.eos_id(),
        "tokenizer.ggml.unknown_token_id": spm.unk_id(),
    }


@pytest.fixture(scope="session")
def bpe() -> Inner:
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return inner


@pytest.fixture(scope="session")
def bpe_folder(bpe: Inner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    inner = Inner.from_str(bpe.to_str())
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    inner.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    return folder
