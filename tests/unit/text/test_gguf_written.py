"""Tokenizers of folders as GGUF metadata: built from it again, they give the same ids for any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from text_files import CORPUS, SPECIAL, write
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

from mlxrun.spec import ModelError
from mlxrun.text.gguf import as_files
from mlxrun.text.gguf_written import PROBES, tokenizer_metadata
from mlxrun.text.opening import folder_tokenizer, gguf_tokenizer
from mlxrun.text.pretokenizers import LLAMA3, PRETOKENIZERS, QWEN2

TEXTS = (*PROBES, *CORPUS[:5], "12345678 and <|turn|>x</s>y", "DON'T\tdon't\n\n\n  x", "a <s> b")
COUNT = 512  # embeddings; more than there are tokens


def trained(pre: list[Any], **options: Any) -> Inner:
    inner = Inner(models.BPE(**options))
    inner.pre_tokenizer = pre_tokenizers.Sequence(pre)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [*CORPUS, "1234 5678 12 345 don't DON'T it's\n\n\t\tx  y HTTPServer camelCase"] * 3
    inner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=480, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    inner.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return inner


LETTERS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WAYS: dict[str, list[Any]] = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "llama3": [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), LETTERS],
    "qwen2": [pre_tokenizers.Split(Regex(QWEN2), "removed", invert=True), LETTERS],
    "deepseek-v3": [
        *(pre_tokenizers.Split(Regex(p), "isolated") for p in PRETOKENIZERS["deepseek-v3"].patterns),
        LETTERS,
    ],
    "gpt-4o": [pre_tokenizers.Split(Regex(PRETOKENIZERS["gpt-4o"].patterns[0]), "isolated"), LETTERS],
}


def folder(inner: Inner, place: Path, **more: Any) -> Path:
    place.mkdir(exist_ok=True)
    inner.save(str(place / "tokenizer.json"))
    write(place, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **more})
    return place


def same(place: Path, metadata: dict[str, Any], texts: tuple[str, ...] = TEXTS) -> None:
    inside, beside = gguf_tokenizer(metadata), folder_tokenizer(place)
    for text in texts:
        for special in (True, False):
            assert inside.encode(text, special=special) == beside.encode(text, special=special), text
    assert (inside.bos_id, inside.eos_ids, inside.add_bos) == (beside.bos_id, beside.eos_ids, beside.add_bos)
    assert len(metadata["tokenizer.ggml.tokens"]) == len(metadata["tokenizer.ggml.token_type"]) == COUNT


@pytest.mark.parametrize("name", WAYS)
def test_byte_level(name: str, tmp_path: Path) -> None:
    place = folder(trained(WAYS[name], ignore_merges=name == "llama3"), tmp_path / "m", chat_template="{{ 1 }}")
    write(place, "generation_config.json", {"eos_token_id": [2, 3]})
    metadata = tokenizer_metadata(place, COUNT, "llama")
    assert PRETOKENIZERS[metadata["tokenizer.ggml.pre"]] == PRETOKENIZERS[name]
    assert metadata["tokenizer.chat_template"] == "{{ 1 }}"
    assert metadata["general.name"] == "m"
    kinds = dict(zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<s>"], kinds["<tool>"], kinds["Ġ"], kinds[f"[PAD{COUNT - 1}]"]) == (3, 4, 1, 5)
    same(place, metadata)


def test_a_pattern_spelled_in_another_way(tmp_path: Path) -> None:
    pattern = LLAMA3.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"'(?i:[sdmt]|ll|ve|re)")
    assert pattern != LLAMA3
    place = folder(trained([pre_tokenizers.Split(Regex(pattern), "isolated"), LETTERS]), tmp_path / "m")
    same(place, tokenizer_metadata(place, COUNT, "llama"))


def test_a_way_that_has_no_name(tmp_path: Path) -> None:
    place = folder(trained([pre_tokenizers.Split(Regex("[aeiou]+"), "isolated"), LETTERS]), tmp_path / "m")
    with pytest.raises(ModelError, match="cuts text in a way that GGUF has no name for"):
        tokenizer_metadata(place, COUNT, "llama")


def test_more_tokens_than_embeddings(tmp_path: Path) -> None:
    place = folder(trained(WAYS["gpt-2"]), tmp_path / "m")
    with pytest.raises(ModelError, match="and the model only 100 embeddings"):
        tokenizer_metadata(place, 100, "llama")


def test_kinds_that_have_no_place(tmp_path: Path) -> None:
    inner = Inner(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    inner.decoder = decoders.Metaspace()
    with pytest.raises(ModelError, match="of the kind Unigram has no place"):
        tokenizer_metadata(folder(inner, tmp_path / "m"), COUNT, "llama")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    found = tokenizer_metadata(tmp_path, COUNT, "llama")
    assert found == {"general.name": tmp_path.name, "tokenizer.ggml.model": "none"}


def test_the_name_is_the_repository_s(tmp_path: Path) -> None:
    place = tmp_path / "models--org--Some-1B" / "snapshots" / "0123abcd"
    place.mkdir(parents=True)
    assert tokenizer_metadata(place, COUNT, "llama")["general.name"] == "Some-1B"


def test_sentencepiece_file(spm_folder: Path) -> None:
    metadata = tokenizer_metadata(spm_folder, COUNT, "llama")
    assert metadata["tokenizer.ggml.model"] == "llama"
    same(spm_folder, metadata, (*PROBES, *CORPUS[:5], "x[INST]"))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("spaced", [False, True])
def test_sentencepiece_as_tokenizer_json(
    spaced: bool, beside: bool, spm: sentencepiece.SentencePieceProcessor, spm_model: bytes, tmp_path: Path
) -> None:
    """As transformers converts it: pairs that make a piece, by its score. With tokenizer.model beside it or not."""
    pieces = [spm.id_to_piece(i) for i in range(spm.get_piece_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(pieces, key=lambda p: -spm.get_score(ids[p]))
        for cut in range(1, len(piece))
        if piece[0] not in "<[" and piece[:cut] in ids and piece[cut:] in ids
    ]
    inner = Inner(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    first = [normalizers.Prepend("▁")] if spaced else []
    inner.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    place = folder(inner, tmp_path / "m")
    if beside:
        (place / "tokenizer.model").write_bytes(spm_model)
    metadata = tokenizer_metadata(place, COUNT, "llama")
    assert metadata["tokenizer.ggml.add_space_prefix"] == spaced
    kinds = dict(zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<unk>"], kinds["<s>"], kinds["<0x0A>"]) == (2, 3, 6)
    same(place, metadata, (*PROBES, *CORPUS[:5]))


@pytest.mark.parametrize("lower", [True, False])
def test_wordpiece(lower: bool, tmp_path: Path) -> None:
    inner = Inner(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lower)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(cleanup=False)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=names))
    place = tmp_path / "m"
    place.mkdir()
    inner.save(str(place / "tokenizer.json"))
    roles = {f"{name[1:-1].lower()}_token": name for name in names}
    write(place, "tokenizer_config.json", roles)
    metadata = tokenizer_metadata(place, COUNT, "bert")
    inside, beside = gguf_tokenizer(metadata), folder_tokenizer(place)
    for text in TEXTS:
        assert inside.encode(text, special=False) == beside.encode(text, special=False), text
    said = {key: metadata[f"tokenizer.ggml.{key}_token_id"] for key in ("cls", "seperator", "unknown", "padding")}
    assert said == {"cls": 2, "seperator": 3, "unknown": 1, "padding": 0}


def test_a_real_vocabulary_comes_back(smollm2_metadata: dict[str, Any], tmp_path: Path) -> None:
    for name, content in as_files(smollm2_metadata).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = tokenizer_metadata(tmp_path, 49152, "llama")
    same_keys = ("tokens", "token_type", "merges", "model", "bos_token_id", "eos_token_id", "padding_token_id")
    for key in same_keys:
        assert found[f"tokenizer.ggml.{key}"] == smollm2_metadata[f"tokenizer.ggml.{key}"], key
    assert found["tokenizer.ggml.pre"] == "smollm"
    assert found["tokenizer.chat_template"] == smollm2_metadata["tokenizer.chat_template"]
    assert json.dumps(found)  # plain values
