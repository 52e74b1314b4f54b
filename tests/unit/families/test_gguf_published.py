"""Metadata as published GGUF files have it resolves to the very spec of the published config.json."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.gguf import resolve_gguf
from mlxrun.spec import Dense, ModelError
from tests.unit.families.published import DEEPSEEK_V3, GLM4_MOE, GPT_OSS, KIMI_K2, QWEN3_5_MOE, QWEN3_NEXT

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
_DEEPSEEK: Config = {
    "block_count": 61,
    "context_length": 163840,
    "embedding_length": 7168,
    "feed_forward_length": 18432,
    "attention.head_count": 128,
    "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.q_lora_rank": 1536,
    "attention.kv_lora_rank": 512,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "rope.freq_base": 10000.0,
    "rope.dimension_count": 64,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 40.0,
    "rope.scaling.original_context_length": 4096,
    "rope.scaling.yarn_log_multiplier": 0.10000000149011612,
    "expert_count": 256,
    "expert_used_count": 8,
    "expert_shared_count": 1,
    "expert_feed_forward_length": 2048,
    "expert_gating_func": 2,
    "expert_weights_scale": 2.5,
    "expert_weights_norm": True,
    "leading_dense_block_count": 3,
    "vocab_size": 129280,
}
_KIMI = {
    **_DEEPSEEK,
    "context_length": 131072,
    "attention.head_count": 64,
    "rope.freq_base": 50000.0,
    "rope.scaling.factor": 32.0,
    "expert_count": 384,
    "expert_group_count": 1,
    "expert_group_used_count": 1,
    "expert_weights_scale": 2.827,
    "leading_dense_block_count": 1,
}
_EARLIER = {
    **{key: value for key, value in _DEEPSEEK.items() if not key.endswith("_mla")},
    "attention.head_count_kv": 128,
    "attention.key_length": 192,
    "attention.value_length": 128,
}
_NEXT: Config = {
    "block_count": 48,
    "context_length": 262144,
    "embedding_length": 2048,
    "feed_forward_length": 5120,
    "attention.head_count": 16,
    "attention.head_count_kv": 2,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 10000000.0,
    "rope.dimension_count": 64,
    "expert_count": 512,
    "expert_used_count": 10,
    "expert_feed_forward_length": 512,
    "expert_shared_feed_forward_length": 512,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 128,
    "ssm.group_count": 16,
    "ssm.time_step_rank": 32,
    "ssm.inner_size": 4096,
    "full_attention_interval": 4,
}
_QWEN35 = {  # with the layer that guesses ahead
    **{key: value for key, value in _NEXT.items() if key != "feed_forward_length"},
    "block_count": 41,
    "nextn_predict_layers": 1,
    "expert_count": 256,
    "expert_used_count": 8,
    "rope.dimension_sections": [11, 11, 10, 0],
    "attention.recurrent_layers": [*[True, True, True, False] * 10, False],
}
_LATENT = ["output.weight", "blk.0.attn_q_a.weight", "blk.3.exp_probs_b.bias"]
FILES: dict[str, tuple[Config, Config, list[str]]] = {  # published config, metadata, some of the tensors
    "gpt-oss 20b": (GPT_OSS, metadata("gpt-oss", _GPT_OSS), ["output.weight"]),
    "gpt-oss 20b of Ollama": (GPT_OSS, metadata("gptoss", _OLLAMA), ["output.weight"]),
    "Qwen 3 Next": (QWEN3_NEXT, metadata("qwen3next", _NEXT), ["output.weight"]),
    "Qwen 3.5 35B": (QWEN3_5_MOE, metadata("qwen35moe", _QWEN35), ["output.weight"]),
    "DeepSeek R1": (DEEPSEEK_V3, metadata("deepseek2", _DEEPSEEK), _LATENT),
    "DeepSeek R1 of January 2025": (DEEPSEEK_V3, metadata("deepseek2", _EARLIER), _LATENT),
    "Kimi K2": (KIMI_K2, metadata("deepseek2", _KIMI), _LATENT),
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


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"expert_gating_func": 1, "expert_count": 160}, "topk_method 'group_limited_greedy'"),  # V2, 236 billion
        ({"expert_gating_func": 3}, "expert_gating_func 3 is not known"),
        ({"attention.temperature_scale": 0.1}, "temperature_scale, not known here"),
        ({"attention.key_length_mla": 64}, "keys of 64 values of which 64 turn"),
        ({"rope.scaling.yarn_log_multiplier": None}, "has no deepseek2.rope.scaling.yarn_log_multiplier"),
    ],
)
def test_what_is_not_known_of_deepseek(changed: Config, said: str) -> None:
    shapes = dict.fromkeys(_LATENT[:2] if changed.get("expert_gating_func") == 1 else _LATENT, (1,))
    told = metadata("deepseek2", {**_DEEPSEEK, "expert_weights_norm": False, **changed})
    with pytest.raises(ModelError, match=re.escape(said)):
        resolve_gguf(told, shapes | {"token_embd.weight": (8, 8)})


# ---- Granite 4's hybrids: nothing of theirs is among the published configs here ------------------

_HYBRID: Config = {
    "block_count": 3,
    "context_length": 1048576,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": [0, 0, 2],
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.scaling.finetuned": False,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 16,
    "ssm.group_count": 1,
    "ssm.inner_size": 128,
    "ssm.time_step_rank": 8,
}


def hybrid(**changed: Any) -> Any:
    told = metadata("granitehybrid", {**_HYBRID, **changed})
    return resolve_gguf(told, {"token_embd.weight": (8, 64), "output.weight": (8, 64)}).decoder


def test_a_hybrid_without_experts() -> None:
    decoder = hybrid()
    assert [type(layer.mixer).__name__ for layer in decoder.layers] == ["Mamba2", "Mamba2", "Attention"]
    assert all(isinstance(layer.ffn, Dense) and layer.ffn.hidden == 96 for layer in decoder.layers)
    assert decoder.layers[2].mixer.rope is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rope.scaling.finetuned": True}, "with positions"),
        ({"attention.head_count_kv": 2}, "must say of each layer"),
        ({"attention.head_count_kv": [0, 2, 4]}, "must say of each layer"),
        ({"ssm.inner_size": 100}, "100 channels are no multiple of 8 heads"),
    ],
)
def test_what_is_not_known_of_hybrids(changed: Config, said: str) -> None:
    with pytest.raises(ModelError, match=re.escape(said)):
        hybrid(**changed)


def test_a_granite_without_positions_is_refused() -> None:
    keys = {key: value for key, value in _HYBRID.items() if not key.startswith("ssm.")}
    with pytest.raises(ModelError, match="without positions"):
        resolve_gguf(metadata("granite", {**keys, "attention.head_count_kv": 2}), {"token_embd.weight": (8, 64)})
