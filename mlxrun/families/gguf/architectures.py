"""llama.cpp's architectures: what each one's own keys mean, and how its tensors differ from what is usual."""

from __future__ import annotations

from typing import Any

from ...spec import ModelError
from . import delta, experts, gemma4, hybrids, latent, mamba
from .further import FURTHER
from .metadata import (
    FILE,
    Architecture,
    Metadata,
    always,
    biases,
    layer_types,
    layers_of,
    longrope_config,
    query_biases,
    rope_config,
)


def _llama_type(m: Metadata) -> str:
    if m.get("expert_count"):
        return "mixtral"
    return "mistral" if m.get("attention.sliding_window") else "llama"


def _llama(m: Metadata) -> dict[str, Any]:
    window = m.get("attention.sliding_window") or None
    if m.get("expert_count"):
        return {**rope_config(m), **experts.experts(m), "sliding_window": window}
    return {**rope_config(m), **({"sliding_window": window} if window else biases(m))}


def _mistral3_type(m: Metadata) -> str:
    return "ministral3" if m.get("attention.temperature_scale") else _llama_type(m)


def _mistral3(m: Metadata) -> dict[str, Any]:
    """Ministral 3: queries grow with their position; mscale has always been mscale_all_dim."""
    beta, sharper = m.get("attention.temperature_scale"), m.get("rope.scaling.yarn_log_multiplier")
    if not beta:
        return _llama(m)
    found = {**rope_config(m), "sliding_window": m.get("attention.sliding_window") or None}
    found.setdefault("rope_scaling", {})["llama_4_scaling_beta"] = beta
    if sharper:
        found["rope_scaling"] |= {"mscale": sharper, "mscale_all_dim": sharper}
    return found


def _cohere2(m: Metadata) -> dict[str, Any]:
    return {
        **rope_config(m),
        "layer_types": layer_types(m, 4),
        "sliding_window": m["attention.sliding_window"],
        "logit_scale": m["logit_scale"],
    }


def _granite(m: Metadata) -> dict[str, Any]:
    if not m.get("rope.scaling.finetuned", True):
        raise ModelError(f"{FILE}: a {m.arch} model without positions (rope.scaling.finetuned) is not known.")
    return {**rope_config(m), **biases(m), **mamba.granite_scales(m)}


def _phi3(m: Metadata) -> dict[str, Any]:
    m.get("rope.scaling.attn_factor")  # where there are no factors either
    return {**rope_config(m), "sliding_window": m.get("attention.sliding_window") or None, **longrope_config(m)}


def _gemma(m: Metadata) -> dict[str, Any]:
    """The query's scale is not written; only the 27B models' is not that of the head."""
    wide = (m.arch, m["block_count"]) in (("gemma2", 46), ("gemma3", 62))
    width = m["embedding_length"] // m["attention.head_count"] if wide else m["attention.key_length"]
    return {"query_pre_attn_scalar": width, "sliding_window": m.get("attention.sliding_window")}


def _gemma2(m: Metadata) -> dict[str, Any]:
    caps = {
        "attn_logit_softcapping": m.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": m.get("final_logit_softcapping", 30.0),
    }
    return {**rope_config(m), **_gemma(m), **caps}


def _gemma3(m: Metadata) -> dict[str, Any]:
    found = {**rope_config(m, 1e6), **_gemma(m), "final_logit_softcapping": m.get("final_logit_softcapping")}
    return {**found, "layer_types": layer_types(m), "rope_local_base_freq": float(m.get("rope.freq_base_swa", 10000.0))}


def _olmo2(m: Metadata) -> dict[str, Any]:
    window = m.get("attention.sliding_window")
    m.get("attention.sliding_window_pattern")  # three to one, as the family has it
    return {**rope_config(m), **({"sliding_window": window} if window else {})}


def _gpt2(m: Metadata) -> dict[str, Any]:
    m.get("rope.dimension_count")
    return {}


def _apertus(m: Metadata) -> dict[str, Any]:
    """What the activation learned is said without the architecture's name before it, one number a layer."""
    lists = [m.values.get(f"xielu.{name}") for name in ("alpha_p", "alpha_n", "beta", "eps")]
    if not all(isinstance(found, list) and len(found) == layers_of(m) for found in lists):
        raise ModelError(f"{FILE}: xielu.alpha_p, alpha_n, beta and eps must each list one number for each layer.")
    learned = [tuple(map(float, numbers)) for numbers in zip(*lists, strict=True)]
    return {**rope_config(m), "hidden_act": "xielu", "xielu": learned, "attention_bias": query_biases(m)}


def _bert(m: Metadata) -> dict[str, Any]:
    return {"type_vocab_size": int(m.shapes.get("token_types.weight", (0,))[0])}


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(_llama_type, _llama, interleaved=True, writes=("llama", "mistral", "mixtral")),
    "mistral3": Architecture(_mistral3_type, _mistral3, interleaved=True, writes=("ministral3",)),
    "smollm3": Architecture(
        always("smollm3"), lambda m: {**rope_config(m), **biases(m)}, interleaved=True, writes=("smollm3",)
    ),
    "granite": Architecture(always("granite"), _granite, interleaved=True, writes=("granite",)),
    "granitehybrid": Architecture(
        always("granitemoehybrid"), mamba.granite_hybrid, own=mamba.PLACES, own_widths=True, rules=mamba.mamba_rules
    ),
    "jamba": Architecture(
        always("jamba"), hybrids.jamba, own=hybrids.NORMED, own_widths=True, rules=hybrids.mamba1_rules
    ),
    "mamba": Architecture(
        hybrids.mamba1_type, hybrids.mamba1, own=hybrids.PLACES, own_widths=True, rules=hybrids.mamba1_rules
    ),
    "mamba2": Architecture(
        always("mamba2"), hybrids.mamba2, own=hybrids.MAMBA2_PLACES, own_widths=True, rules=mamba.mamba_rules
    ),
    **dict.fromkeys(
        ("nemotron_h", "nemotron_h_moe"),
        Architecture(
            always("nemotron_h"),
            hybrids.nemotron_h,
            own=hybrids.ONE_NORM,
            own_widths=True,
            rules=hybrids.one_norm_rules,
        ),
    ),
    "qwen2": Architecture(always("qwen2"), rope_config, writes=("qwen2",)),
    "qwen2moe": Architecture(always("qwen2_moe"), experts.qwen2_moe, rules=experts.shared_gate, writes=("qwen2_moe",)),
    "qwen3": Architecture(always("qwen3"), rope_config, writes=("qwen3",)),
    "qwen3moe": Architecture(always("qwen3_moe"), experts.qwen3_moe, writes=("qwen3_moe",)),
    "olmoe": Architecture(always("olmoe"), experts.olmoe, writes=("olmoe",)),
    "gpt-oss": Architecture(always("gpt_oss"), experts.gpt_oss, own={"post_attention_norm": "ffn_norm"}),
    "gptoss": Architecture(
        always("gpt_oss"), experts.gpt_oss, own={"attn_out": "mixer.o"}, rules=experts.zipped_experts
    ),  # Ollama's own
    "glm4": Architecture(
        always("glm4"),
        lambda m: {**rope_config(m), "attention_bias": query_biases(m)},
        fused=("ffn_up",),
        writes=("glm4",),
    ),
    "glm4moe": Architecture(always("glm4_moe"), experts.glm4_moe, own={"post_attention_norm": "ffn_norm"}),
    "deepseek2": Architecture(
        latent.deepseek_type, latent.deepseek2, own=latent.PLACES, own_widths=True, rules=latent.kv_rules
    ),
    "gemma": Architecture(always("gemma"), rope_config, folded=True, writes=("gemma",)),
    "gemma2": Architecture(always("gemma2"), _gemma2, folded=True, writes=("gemma2",)),
    "gemma3": Architecture(always("gemma3_text"), _gemma3, folded=True, writes=("gemma3_text",)),
    "gemma4": Architecture(
        always("gemma4_text"), gemma4.gemma4, own=gemma4.PLACES, own_widths=True, rules=gemma4.rules
    ),
    "phi3": Architecture(always("phi3"), _phi3, fused=("attn_qkv", "ffn_up"), writes=("phi3",)),
    "olmo2": Architecture(
        lambda m: "olmo3" if m.get("attention.sliding_window") else "olmo2", _olmo2, writes=("olmo2", "olmo3")
    ),
    "qwen3next": Architecture(
        always("qwen3_next"), delta.qwen3_next, folded=True, own=delta.PLACES, rules=delta.next_rules
    ),
    "qwen35": Architecture(
        always("qwen3_5_text"), delta.qwen3_5, folded=True, own=delta.PLACES, rules=delta.dealt_rules
    ),
    "qwen35moe": Architecture(
        always("qwen3_5_moe_text"), delta.qwen3_5_moe, folded=True, own=delta.PLACES, rules=delta.dealt_rules
    ),
    "cohere2": Architecture(always("cohere2"), _cohere2, writes=("cohere2",)),
    "apertus": Architecture(always("apertus"), _apertus),
    "gpt2": Architecture(always("gpt2"), _gpt2, fused=("attn_qkv",), writes=("gpt2",)),
    "bert": Architecture(
        always("bert"),
        _bert,
        own={"attn_output_norm": "mixer_norm", "layer_output_norm": "ffn_norm"},
        causal=False,
        writes=("bert",),
    ),
    **FURTHER,
}
