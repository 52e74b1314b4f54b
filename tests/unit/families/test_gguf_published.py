"""Metadata as published GGUF files have it resolves to the very spec of the published config.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.gguf import resolve_gguf
from tests.unit.families.published import GLM4_MOE, GPT_OSS

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
_GLM: Config = {
    "block_count": 47,
    "nextn_predict_layers": 1,
    "context_length": 131072,
    "embedding_length": 4096,
    "feed_forward_length": 10944,
    "attention.head_count": 96,
    "attention.head_count_kv": 8,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 1000000.0,
    "rope.dimension_count": 64,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_shared_count": 1,
    "expert_group_count": 1,
    "expert_group_used_count": 1,
    "expert_feed_forward_length": 1408,
    "expert_gating_func": 2,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
    "leading_dense_block_count": 1,
}
FILES: dict[str, tuple[Config, Config, list[str]]] = {  # published config, metadata, some of the tensors
    "gpt-oss 20b": (GPT_OSS, metadata("gpt-oss", _GPT_OSS), ["output.weight"]),
    "gpt-oss 20b of Ollama": (GPT_OSS, metadata("gptoss", _OLLAMA), ["output.weight"]),
    "GLM 4.5 Air": (
        GLM4_MOE,
        metadata("glm4moe", _GLM),
        ["output.weight", "blk.0.attn_q.bias", "blk.1.exp_probs_b.bias"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_the_published_model(name: str) -> None:
    config, told, tensors = FILES[name]
    wanted = resolve(config).decoder
    shapes = dict.fromkeys(tensors, (1,)) | {"token_embd.weight": (wanted.vocab, wanted.dim)}
    assert replace(resolve_gguf(told, shapes).decoder, family=wanted.family) == wanted
