"""A Whisper of CTranslate2 (`model.bin`, version 6) -> a folder as Hugging Face has it.

The layout: https://github.com/OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py. Knows Whisper only.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
MODULES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
FUSED = {"self_attention/linear_0": ("self_attn", "qkv"), "attention/linear_1": ("encoder_attn", "kv")}
LEAVES = {"gamma": "weight", "beta": "bias"}


def variables(data: bytes) -> dict[str, Any]:
    at = 0

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return int(value)

    def text() -> str:
        nonlocal at
        size = take("<H")
        at += size
        return data[at - size : at - 1].decode()

    version = take("<I")
    assert version == 6, version
    text()
    take("<I")
    found = {}
    for _ in range(take("<I")):
        name = text()
        shape = [take("<I") for _ in range(take("<B"))]
        kind, size = take("<B"), take("<I")
        found[name] = np.frombuffer(data, TYPES[kind], size // np.dtype(TYPES[kind]).itemsize, at).reshape(shape)
        at += size
    return found


def tensors(found: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in found.items():
        half, _, rest = name.partition("/")
        if half not in ("encoder", "decoder") or rest.startswith("projection") or value.ndim == 0:
            continue
        path, _, leaf = rest.rpartition("/")
        leaf = LEAVES.get(leaf, leaf)
        if not path.startswith("layer_") or path == "layer_norm":
            plain = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}.get(path, path)
            made[f"model.{half}.{plain}.{'weight' if leaf == 'encodings' else leaf}"] = value
            continue
        number, _, module = path.removeprefix("layer_").partition("/")
        at = f"model.{half}.layers.{number}"
        if module not in FUSED:
            made[f"{at}.{MODULES[module]}.{leaf}"] = value
            continue
        block, letters = FUSED[module]
        for letter, part in zip(letters, np.split(value, len(letters)), strict=True):
            if (letter, leaf) != ("k", "bias"):  # it is nothing but zeros
                made[f"{at}.{block}.{letter}_proj.{leaf}"] = part
    return {name: np.ascontiguousarray(value) for name, value in made.items()}


def hugging_face_folder(source: Path, parts: list[Path], folder: Path) -> Path:
    """`parts`: the file, in as many pieces as it comes in."""
    found = tensors(variables(b"".join(part.read_bytes() for part in parts)))
    told = json.loads((source / "config.json").read_text())
    dim = found["model.decoder.embed_tokens.weight"].shape[1]
    layers = {
        half: 1 + max(int(n.split(".")[3]) for n in found if f"{half}.layers" in n) for half in ("encoder", "decoder")
    }
    config = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": len(found["model.decoder.embed_tokens.weight"]),
        "num_mel_bins": found["model.encoder.conv1.weight"].shape[1],
        "d_model": dim,
        "encoder_layers": layers["encoder"],
        "decoder_layers": layers["decoder"],
        "encoder_attention_heads": dim // 64,
        "decoder_attention_heads": dim // 64,
        "encoder_ffn_dim": 4 * dim,
        "decoder_ffn_dim": 4 * dim,
        "activation_function": "gelu",
        "max_source_positions": len(found["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(found["model.decoder.embed_positions.weight"]),
        "torch_dtype": "float16",
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    lists = {"suppress_tokens": told["suppress_ids"], "begin_suppress_tokens": told["suppress_ids_begin"]}
    (folder / "generation_config.json").write_text(json.dumps({**lists, "is_multilingual": True}))
    shutil.copy(source / "tokenizer.json", folder)
    return folder
