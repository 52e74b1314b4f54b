"""Whole models from GGUF files: tiny checkpoints written as llama.cpp's converter writes them, by the `gguf`
package's writer and name map, load to the logits that transformers computed from the originals.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxrun.families import Recipe
from mlxrun.families.gguf import resolve_gguf
from mlxrun.loading import load_model
from mlxrun.spec import Attention, ModelError, MoE
from tests.golden import measure
from tests.golden.checkpoint import Reference, reference
from tests.golden.exact import EXACT
from tests.golden.measure import Driver
from tests.unit.families import gguf_conversions

Array = NDArray[np.float32]
Config = dict[str, Any]

ARCHITECTURES = {  # golden case: llama.cpp's architecture
    "llama": "llama",
    "llama_bias": "llama",
    "llama_tied": "llama",
    "llama_linear": "llama",
    "llama_yarn": "llama",
    "mistral_window": "llama",
    "mixtral": "llama",
    "smollm3": "smollm3",
    "granite": "granite",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "phi3": "phi3",
    "phi3_window": "phi3",
    "phi3_longrope_short": "phi3",
    "phi3_longrope_long": "phi3",
    "olmo2": "olmo2",
    "olmo3": "olmo2",
    "gpt2": "gpt2",
    "bert": "bert",
    "gpt_oss": "gpt-oss",
    "glm4": "glm4",
    "granite_hybrid": "granitehybrid",
    "gemma4_dense": "gemma4",
    "gemma4_moe": "gemma4",
    "gemma4_small": "gemma4",
    "qwen3_next": "qwen3next",
    "qwen3_5": "qwen35",
    "qwen3_5_moe": "qwen35moe",
    "ministral3": "mistral3",
    "cohere2": "cohere2",
    "deepseek_v2": "deepseek2",
    "deepseek_v2_whole_q": "deepseek2",
    "deepseek_v3": "deepseek2",
    "deepseek_v3_negative": "deepseek2",
    "deepseek_v3_whole_q": "deepseek2",
    "kimi_k2": "deepseek2",
    "olmoe": "olmoe",
    "qwen2_moe": "qwen2moe",
    "glm4_moe": "glm4moe",
    "apertus": "apertus",
    "apertus_bias": "apertus",
    "exaone": "exaone",
    "exaone_scaled": "exaone",
    "exaone4": "exaone4",
    "exaone4_full": "exaone4",
    "exaone_moe": "exaone-moe",
    "hunyuan_dense": "hunyuan-dense",
    "hunyuan_dense_alpha": "hunyuan-dense",
    "hunyuan_moe": "hunyuan-moe",
    "minicpm": "minicpm",
    "minicpm3": "minicpm3",
    "internlm2": "internlm2",
    "deepseek": "deepseek",
    "bailing_moe": "bailingmoe",
    "bailing_moe_2": "bailingmoe2",
    "seed_oss": "seed_oss",
    "arcee": "arcee",
    "starcoder2_plain": "starcoder2",
    "stablelm": "stablelm",
    "stablelm_norms": "stablelm",
    "cohere": "command-r",
    "cohere_norms": "command-r",
    "ernie4_5": "ernie4_5",
    "ernie4_5_moe": "ernie4_5-moe",
    "granitemoe": "granitemoe",
    "dots1_negative": "dots1",
    "minimax_m2": "minimax-m2",
    "olmo": "olmo",
    "olmo_clip": "olmo",
    "nemotron": "nemotron",
    "glm4_moe_negative": "glm4moe",
    "mamba": "mamba",  # Falcon Mamba's second epsilon has no key there, so its golden case cannot be written
    "mamba2": "mamba2",
    "jamba": "jamba",
    "jamba_dense": "jamba",
    "nemotron_h": "nemotron_h_moe",
    "nemotron_h_latent": "nemotron_h_moe",
}
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_k")
PERMUTED = {
    "granitehybrid",
    "llama",
    "mistral3",
    "smollm3",
    "granite",
    "minicpm",
    "deepseek",
    "arcee",
    "granitemoe",
    "olmo",
}
SHIFTED = {"gemma2", "gemma3", "nemotron"}
# llama.cpp has no key for a query scale that is not the head's, so these carry the difference
CARRIES_SCALE = {"gemma2": r"\.q_proj\.weight$", "gemma3": r"\.q_norm\.weight$"}


def permuted(rows: Array, heads: int) -> Array:
    """Rows of each head in the order 0, d/2, 1, d/2 + 1, ..."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tensors_of(known: Reference, arch: str, config: Config | None = None) -> dict[str, Array]:
    """Conversions leave in `config` what becomes keys."""
    config, found = dict(known.config) if config is None else config, dict(known.checkpoint().weights)
    if arch in gguf_conversions.CONVERTED:
        found = gguf_conversions.CONVERTED[arch](found, config)
    layers = layers_of(config)
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, layers)
    stacks: dict[str, list[Array]] = {}
    for name in sorted(n for n in found if re.search(r"\.experts\.\d+\.", n)):  # fewer than ten
        joined = re.sub(r"model\.(layers\.\d+)\.block_sparse_moe\.experts\.\d+", r"\1.feed_forward.experts", name)
        stacks.setdefault(re.sub(r"experts\.\d+", "experts", joined), []).append(found.pop(name))
    found |= {name: np.stack(experts) for name, experts in stacks.items()}
    made = {}
    for name, value in found.items():
        if name.startswith("pooler."):  # left out there
            continue
        if arch in PERMUTED and (match := re.search(r"\.([qk])_proj\.", name)):
            value = permuted(value, config["num_attention_heads" if match[1] == "q" else "num_key_value_heads"])
        if arch in SHIFTED and name.endswith("norm.weight"):
            value = value + 1
        if re.search(CARRIES_SCALE.get(arch, "(?!)"), name):
            value = value * (config["head_dim"] / config["query_pre_attn_scalar"]) ** 0.5
        if arch == "gpt2" and re.search(r"\.c_(attn|proj|fc)\.weight$", name):
            value = value.T
        made[names.get_name(name, (".weight", ".bias")) or name] = value
    missing = [name for name in made if "layers" in name]
    assert not missing, missing
    return {name: np.ascontiguousarray(value) for name, value in made.items()}


def layers_of(c: Config) -> int:
    named = next((c[key] for key in ("num_hidden_layers", "num_layers", "n_layer") if c.get(key)), None)
    return int(named or len(c["layers_block_type"]))


def rope_of(c: Config) -> Config:
    """In the newer spelling."""
    if "rope_theta" not in c:
        return dict(c["rope_parameters"])
    scaling = {"rope_type": (c.get("rope_scaling") or {}).get("type", "default"), **(c.get("rope_scaling") or {})}
    return {**scaling, "rope_theta": c["rope_theta"], "partial_rotary_factor": c.get("partial_rotary_factor", 1.0)}


def add_sizes(writer: gguf.GGUFWriter, c: Config) -> None:
    heads = c.get("num_attention_heads") or c.get("n_head", 0)  # of Mamba, which has none
    dim = c.get("hidden_size") or c["n_embd"]
    writer.add_context_length(c.get("max_position_embeddings") or c.get("n_positions", 1 << 20))
    writer.add_embedding_length(dim)
    writer.add_block_count(layers_of(c))
    writer.add_feed_forward_length(c.get("intermediate_size") or c.get("n_inner") or 4 * dim)
    writer.add_head_count(heads)
    if "kv_lora_rank" in c:
        writer.add_head_count_kv(1)  # the latent; its widths are the architecture's own
    else:
        writer.add_head_count_kv(c.get("num_key_value_heads", heads))
    if "kv_lora_rank" not in c and heads and c.get("head_dim"):
        writer.add_key_length(c["head_dim"])
        writer.add_value_length(c["head_dim"])
    if rms := c.get("rms_norm_eps") or (not heads and c["layer_norm_epsilon"]):
        writer.add_layer_norm_rms_eps(rms)
    else:
        names = ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
        writer.add_layer_norm_eps(next((c[name] for name in names if name in c), 1e-5))
    writer.add_file_type(0)
    writer.add_vocab_size(c["vocab_size"])


def add_rope(writer: gguf.GGUFWriter, c: Config) -> None:
    rope = rope_of(c)
    rope = rope.get("full_attention", rope)
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    stretch = rope["alpha"] ** (head / (head - 2)) if "alpha" in rope else 1.0  # Hunyuan
    writer.add_rope_freq_base(rope["rope_theta"] * stretch)
    if "kv_lora_rank" not in c:
        writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1.0)))
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if "beta_fast" in rope:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def add_own(writer: gguf.GGUFWriter, c: Config, arch: str) -> None:
    window = c.get("sliding_window")
    if c["model_type"] == "phi3":
        writer.add_sliding_window(window or 0)
    elif window and c["model_type"] not in ("qwen2", "qwen3", "mixtral"):
        writer.add_sliding_window(window)
    if experts := next((c[key] for key in EXPERTS if key in c), None):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(next(c[key] for key in CHOSEN if key in c))
    if c.get("clip_qkv"):
        writer.add_clamp_kqv(c["clip_qkv"])
    if arch in ("granite", "granitemoe"):
        writer.add_attention_scale(c["attention_multiplier"])
        writer.add_embedding_scale(c["embedding_multiplier"])
        writer.add_residual_scale(c["residual_multiplier"])
        writer.add_logit_scale(c["logits_scaling"])
    if arch in gguf_conversions.KEYS:
        gguf_conversions.KEYS[arch](writer, c)
    if arch == "bert":
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(c["final_logit_softcapping"])


def rope_factors(c: Config) -> dict[str, Array]:
    """Tensors of factors: what llama.cpp multiplies each pair's wavelength by."""
    rope = rope_of(c) if c.get("rope_parameters") or "rope_theta" in c else {}
    if rope.get("rope_type") == "longrope":
        return {f"rope_factors_{x}.weight": np.array(rope[f"{x}_factor"], np.float32) for x in ("long", "short")}
    if rope.get("rope_type") != "llama3":
        return {}
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    waves = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head)
    turns = rope["original_max_position_embeddings"] / waves
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return {"rope_freqs.weight": (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)}


def write(known: Reference, arch: str, path: Path) -> Path:
    c = dict(known.config)
    tensors = tensors_of(known, arch, c)
    writer = gguf.GGUFWriter(str(path), arch)
    add_sizes(writer, c)
    if c.get("rope_parameters") or "rope_theta" in c:
        add_rope(writer, c)
    add_own(writer, c, arch)
    for name, value in {**tensors, **rope_factors(c)}.items():
        writer.add_tensor(name, value.astype(np.float32))
    return finished(writer, path)


def finished(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_a_gguf_file_is_the_model_it_was_made_from(case: str, tmp_path: Path) -> None:
    known = reference(case)
    path = write(known, ARCHITECTURES[case], tmp_path / f"{case}.gguf")
    model = load_model(path, dtype=mx.float32, options=EXACT)
    assert measure.whole(Driver(model, known), known) <= 1e-4


# ---- metadata alone -----------------------------------------------------------------------------

METADATA: Config = {
    "general.architecture": "llama",
    "llama.context_length": 128,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 16,
    "llama.vocab_size": 48,
    "tokenizer.ggml.model": "gpt2",
}
SHAPES = {"token_embd.weight": (48, 64), "output.weight": (48, 64)}


def metadata(arch: str, **own: Any) -> Config:
    renamed = {key.replace("llama.", f"{arch}.", 1): value for key, value in METADATA.items()}
    return {**renamed, "general.architecture": arch, **{f"{arch}.{key}": value for key, value in own.items()}}


def first_attention(recipe: Recipe) -> Attention:
    mixer = recipe.decoder.layers[0].mixer
    assert isinstance(mixer, Attention)
    return mixer


def test_the_head_is_tied_where_there_is_none() -> None:
    assert not resolve_gguf(METADATA, SHAPES).decoder.tied
    assert resolve_gguf(METADATA, {"token_embd.weight": (48, 64)}).decoder.tied


def test_qwen_3_moe() -> None:
    own = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32, "attention.key_length": 32}
    recipe = resolve_gguf(
        metadata("qwen3moe", **own, **{"attention.value_length": 32, "rope.dimension_count": 32}), SHAPES
    )
    moe = recipe.decoder.layers[0].ffn
    assert isinstance(moe, MoE)
    assert (moe.experts, moe.hidden, moe.router.top_k, moe.router.renorm) == (8, 32, 2, True)
    assert first_attention(recipe).qk_norm is not None


def test_the_query_scale_of_gemma_is_the_heads_but_for_the_27b_models() -> None:
    keys = {"attention.key_length": 32, "attention.value_length": 32, "rope.dimension_count": 32}
    for arch, wide in (("gemma2", 46), ("gemma3", 62)):
        own = {**keys, "attention.sliding_window": 8}
        assert first_attention(resolve_gguf(metadata(arch, **own), SHAPES)).scale == 32**-0.5
        assert first_attention(resolve_gguf(metadata(arch, **own, block_count=wide), SHAPES)).scale == 16**-0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"general.architecture": "spiral"}, "'spiral' is not known; known are llama"),
        ({"general.architecture": None}, "does not say its general.architecture"),
        ({"llama.block_count": None}, "no llama.block_count"),
        ({"llama.block_count": 10**9}, "llama.block_count must be"),
        ({"llama.attention.head_count": 128}, "llama.attention.head_count must be a whole number from 1 to 64"),
        ({"llama.embedding_length": "wide"}, "llama.embedding_length must be"),
        ({"llama.rope.freq_base": "far"}, "llama.rope.freq_base 'far'"),
        ({"llama.attention.head_count_kv": [2, 1]}, "differs from layer to layer"),
        ({"llama.attention.value_length": 8}, "another size than keys"),
        ({"llama.swirl": 3}, "llama.swirl.*--waive"),
        ({"llama.rope.scaling.type": "spiral"}, "rope type 'spiral'"),
    ],
)
def test_what_is_not_understood_is_told(changed: Config, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_gguf({**METADATA, **changed}, SHAPES)


def test_factors_must_fit_the_rope() -> None:
    with pytest.raises(ModelError, match="must hold 8 values, not 3"):
        resolve_gguf(METADATA, SHAPES, {"rope_freqs.weight": (1.0, 1.0, 1.0)})


def test_a_key_can_be_waived() -> None:
    changed = {**METADATA, "llama.swirl": 3}
    assert resolve_gguf(changed, SHAPES, waive={"llama.swirl"}) == resolve_gguf(METADATA, SHAPES)
