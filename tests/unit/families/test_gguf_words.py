"""Published configs as GGUF metadata: read again they are the same model, and what has no words is named."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.gguf.written import TYPES, check, metadata_of, place_of
from mlxrun.families.wrappers import unwrap
from mlxrun.spec import ModelError
from tests.unit.families import published, published_dense

Config = dict[str, Any]
_GEMMA: Config = {
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "vocab_size": 256000,
}
_WIDE = {"head_dim": 128, "num_attention_heads": 32, "num_key_value_heads": 16, "hidden_activation": None}
CONFIGS: dict[str, Config] = {
    "LLAMA_3_1": published_dense.LLAMA_3_1,
    "SMOLLM2": published_dense.SMOLLM2,
    "MISTRAL_V01": published_dense.MISTRAL_V01,
    "QWEN2_5": published_dense.QWEN2_5,
    "QWEN3_MOE": published.QWEN3_MOE,
    "GEMMA_3_4B": published_dense.GEMMA_3_4B,
    "PHI_4_MINI": published_dense.PHI_4_MINI,
    "GPT2": published_dense.GPT2,
    "BERT": published_dense.BERT,
    "gemma 2b": {**_GEMMA, "model_type": "gemma"},
    "gemma 2 27b": {  # its query's scale is not that of its heads
        **_GEMMA,
        **_WIDE,
        "model_type": "gemma2",
        "num_hidden_layers": 46,
        "hidden_size": 4608,
        "query_pre_attn_scalar": 144,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    },
    "gemma 3 27b": {
        **_GEMMA,
        **_WIDE,
        "model_type": "gemma3_text",
        "num_hidden_layers": 62,
        "hidden_size": 5376,
        "query_pre_attn_scalar": 168,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
    },
}


def round_trip(config: Config) -> Any:
    decoder = resolve(config).decoder
    written = metadata_of(decoder, unwrap(config, "hf", "config.json")[0])
    shapes = {"token_embd.weight": (decoder.vocab, decoder.dim), "token_types.weight": (decoder.token_types, 1)}
    check(written, decoder, shapes if decoder.tied else {**shapes, "output.weight": (decoder.vocab, decoder.dim)})
    return written


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_model_has_words(name: str) -> None:
    assert round_trip(CONFIGS[name]).name in TYPES.values()


def test_llama_3_s_rope_becomes_a_tensor() -> None:
    factors = round_trip(published_dense.LLAMA_3_1).factors["rope_freqs.weight"]
    assert (factors[0], factors[-1], len(factors)) == (1.0, 8.0, 64)
    assert sorted(factors) == list(factors)


def test_phi_s_ropes_become_two() -> None:
    factors = round_trip(published_dense.PHI_4_MINI).factors
    scaling = published_dense.PHI_4_MINI["rope_scaling"]
    for name in ("short", "long"):
        assert factors[f"rope_factors_{name}.weight"] == pytest.approx(scaling[f"{name}_factor"], rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "spiral"}, "has no recipe"),
        ({"hidden_act": "gelu"}, r"layers\.0\.ffn\.act, 'gelu', would be read as 'silu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, r"long_freqs, 32 values, would be read as None"),
    ],
)
def test_what_has_no_words(changed: Config, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        round_trip({**published_dense.QWEN2_5, **changed})


def test_a_weight_without_a_place() -> None:
    arch = round_trip(published_dense.QWEN2_5).arch
    assert place_of("layers.3.mixer.q.bias", arch) == ("blk.3.attn_q.bias", 0)
    with pytest.raises(ModelError, match=r"layers\.3\.mixer\.sinks has no place"):
        place_of("layers.3.mixer.sinks", arch)
