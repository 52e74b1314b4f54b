"""What listens: what transformers makes of a sound, kept in speech/.

`python -m tests.golden.speech` makes the files, with torch and transformers installed: frames by its extractor,
rows, logits and what is written down by a Whisper all of whose tensors are drawn anew. Nothing of mlxrun but the
drawing is imported here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from tests.server.tiny import byte_tokenizer

from .checkpoint import Checkpoint, write
from .draw import kind_of
from .towers import drawn

FOLDER = Path(__file__).parent / "speech"
CASES = {"whisper": 80, "whisper_128": 128}  # name: bands
RATE, SECONDS = 16_000, 7.3
BEFORE = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|haw|>", "<|translate|>", "<|transcribe|>")
WORDS = (*BEFORE, "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
TICKS = 1501
READ = "The quick brown fox"  # behind the prompt
LANGUAGE = "de"
FRAMES = (*range(24), *range(500, 1000, 97), *range(1990, 3000, 101))  # that are kept
ROWS = range(0, 1500, 61)


def sound() -> NDArray[np.float32]:
    random, time = np.random.RandomState(11), np.arange(int(RATE * SECONDS)) / RATE
    tones = sum(np.sin(2 * np.pi * f * time * (1 + 0.1 * time)) / (i + 2) for i, f in enumerate((110, 331, 1200, 3700)))
    return (0.3 * tones * np.hanning(len(time)) + random.normal(0, 0.01, len(time))).astype(np.float32)


def tokenizer() -> Tokenizer:
    made = byte_tokenizer()
    times = [f"<|{i * 0.02:.2f}|>" for i in range(TICKS)]
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in WORDS])
    made.add_tokens([AddedToken(word, special=False, normalized=False) for word in times])
    return made


def config_of(mels: int) -> dict[str, Any]:
    words = tokenizer()
    end = words.token_to_id("<|endoftext|>")
    return {
        "vocab_size": words.get_vocab_size(),
        "num_mel_bins": mels,
        "d_model": 48,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 6,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 80,
        "decoder_ffn_dim": 112,
        "max_target_positions": 96,
        "decoder_start_token_id": words.token_to_id("<|startoftranscript|>"),
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def generation_of() -> dict[str, Any]:
    words = tokenizer()
    return {
        "is_multilingual": True,
        "suppress_tokens": [1, 40, 77, *(words.token_to_id(word) for word in WORDS[1:10])],
        "begin_suppress_tokens": [220, words.token_to_id("<|endoftext|>")],
        "max_initial_timestamp_index": 30,
    }


@dataclass(frozen=True)
class SpeechReference:
    name: str
    config: dict[str, Any]
    tensors: dict[str, tuple[list[int], str]]
    tokens: list[int]  # whose logits are kept
    written: list[int]  # in the first window, up to the last whole segment, times too
    mels: NDArray[np.float32]
    rows: NDArray[np.float32]
    logits: NDArray[np.float32]

    def write(self, folder: Path) -> Path:
        weights = {name: drawn(self.name, name, tuple(shape), kind) for name, (shape, kind) in self.tensors.items()}
        write(Checkpoint(dict(self.config), weights), folder)
        tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "generation_config.json").write_text(json.dumps(generation_of()))
        said = {"feature_size": CASES[self.name], "sampling_rate": RATE, "n_fft": 400, "hop_length": 160}
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
        return folder


def speech_reference(name: str) -> SpeechReference:
    said = json.loads((FOLDER / f"{name}.json").read_text())
    arrays = np.load(FOLDER / f"{name}.npz")
    return SpeechReference(name, said["config"], said["tensors"], said["tokens"], said["written"], **arrays)


def make(name: str) -> str:
    import torch
    import transformers
    from safetensors.numpy import load_file

    torch.manual_seed(0)
    words = tokenizer()
    first = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**config_of(CASES[name])))
    with tempfile.TemporaryDirectory() as folder:
        first.save_pretrained(folder)
        written = json.loads(Path(folder, "config.json").read_text())
        tensors = {
            key: (list(value.shape), "filters" if value.ndim > 2 else kind_of(key, value, False, "mixed"))
            for key, value in sorted(load_file(f"{folder}/model.safetensors").items())
        }
        weights = {key: drawn(name, key, tuple(shape), kind) for key, (shape, kind) in tensors.items()}
        write(Checkpoint(written, weights), Path(folder))
        model = type(first).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    extractor = transformers.WhisperFeatureExtractor(feature_size=CASES[name])
    whole = np.pad(sound(), (0, 30 * RATE - len(sound())))[None]
    features = torch.tensor(extractor._np_extract_fbank_features(whole, "cpu"))  # by torch it is float32, 1e-6 off
    prompt = ["<|startoftranscript|>", f"<|{LANGUAGE}|>", "<|transcribe|>"]
    tokens = [*(words.token_to_id(word) for word in prompt), *words.encode(READ).ids]
    for key, value in {**generation_of(), **ids_of(words)}.items():
        setattr(model.generation_config, key, value)
    model.generation_config._from_model_config = False
    with torch.no_grad():
        rows = model.model.encoder(features).last_hidden_state[0]
        logits = model(features, decoder_input_ids=torch.tensor([tokens])).logits[0]
        said = model.generate(
            features, language=LANGUAGE, task="transcribe", return_timestamps=True, max_new_tokens=48, num_beams=1
        )[0].tolist()
    if said[0] in said[1:]:  # of the first window: times do not go back in one
        said = said[: said.index(said[0], 1)]
    head = {"made_with": {"torch": torch.__version__, "transformers": transformers.__version__}, "config": written}
    head |= {"tokens": tokens, "written": said, "tensors": tensors}
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    (FOLDER / f"{name}.json").write_text(f"{{{lines}}}\n")
    arrays = {"mels": features[0].T[list(FRAMES)], "rows": rows[list(ROWS)], "logits": logits}
    np.savez_compressed(FOLDER / f"{name}.npz", **{key: value.float().numpy() for key, value in arrays.items()})
    return f"{len(tensors)} tensors, rows to {rows.abs().max():.1f}, logits to {logits.abs().max():.1f}, {said}"


def ids_of(words: Tokenizer) -> dict[str, Any]:
    """What transformers asks for by name."""
    return {
        "lang_to_id": {word: words.token_to_id(word) for word in WORDS[2:5]},
        "task_to_id": {task: words.token_to_id(f"<|{task}|>") for task in ("transcribe", "translate")},
        "no_timestamps_token_id": words.token_to_id("<|notimestamps|>"),
        "prev_sot_token_id": words.token_to_id("<|startofprev|>"),
    }


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CASES:
        print(f"{chosen}: {make(chosen)}", flush=True)
