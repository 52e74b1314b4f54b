"""Metadata as published GGUF files have it resolves to the very spec of the published config.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.gguf import resolve_gguf
from tests.unit.families.published import GPT_OSS

Config = dict[str, Any]


def metadata(arch: str, keys: Config) -> Config:
    return {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in keys.items()}}


_GPT_OSS: Config = {
    "block_count": 24,
    "context_length": 131072,
    "embedding_length": 2880,
    "feed_forward_length": 2880,
    "attention.head_count": 64,
    "attention.head_count_kv": 8,
    "attention.key_length": 64,
    "attention.value_length": 64,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.sliding_window": 128,
    "expert_count": 32,
    "expert_used_count": 4,
    "expert_feed_forward_length": 2880,
    "rope.freq_base": 150000.0,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 32.0,
    "rope.scaling.original_context_length": 4096,
}
_OLLAMA = {k: v for k, v in _GPT_OSS.items() if k not in ("expert_feed_forward_length", "rope.scaling.type")}
FILES: dict[str, tuple[Config, Config, list[str]]] = {  # published config, metadata, some of the tensors
    "gpt-oss 20b": (GPT_OSS, metadata("gpt-oss", _GPT_OSS), ["output.weight"]),
    "gpt-oss 20b of Ollama": (GPT_OSS, metadata("gptoss", _OLLAMA), ["output.weight"]),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_the_published_model(name: str) -> None:
    config, told, tensors = FILES[name]
    wanted = resolve(config).decoder
    shapes = dict.fromkeys(tensors, (1,)) | {"token_embd.weight": (wanted.vocab, wanted.dim)}
    assert replace(resolve_gguf(told, shapes).decoder, family=wanted.family) == wanted
