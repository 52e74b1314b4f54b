"""Mamba, Jamba and Nemotron-H in GGUF files: of which kind a layer is, its key heads and its width tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...spec import ModelError
from ..rules import Rename, Rule
from .experts import experts
from .mamba import PLACES as MAMBA2_PLACES
from .mamba import mamba_rules
from .metadata import FILE, Metadata, layers_of, query_biases
from .names import AT

PLACES = {**MAMBA2_PLACES, "ssm_x": "mixer.x", "ssm_dt": "mixer.dt"}
NORMED = {**PLACES, **{f"ssm_{part}_norm": f"mixer.{part}_norm" for part in ("dt", "b", "c")}}
# Every layer has one norm, before whatever it is.
ONE_NORM = {**MAMBA2_PLACES, "ffn_latent_down": "ffn.latent_in", "ffn_latent_up": "ffn.latent_out"}


def mamba1(m: Metadata) -> dict[str, Any]:
    return {
        **_no_heads(m),
        **_state(m, "state_size", "conv_kernel"),
        "intermediate_size": m["ssm.inner_size"],
        "time_step_rank": m["ssm.time_step_rank"],
        "use_conv_bias": _has(m, "ssm_conv1d.bias"),
        **({"mixer_rms_eps": m["attention.layer_norm_rms_epsilon"]} if m.get("ssm.dt_b_c_rms") else {}),
    }


def mamba1_type(m: Metadata) -> str:
    return "falcon_mamba" if m.get("ssm.dt_b_c_rms") else "mamba"


def mamba2(m: Metadata) -> dict[str, Any]:
    return {
        **_no_heads(m),
        **_state(m, "state_size", "conv_kernel"),
        "intermediate_size": m["ssm.inner_size"],
        **_heads(m, "num_heads", "head_dim"),
        "n_groups": m["ssm.group_count"],
        "use_conv_bias": _has(m, "ssm_conv1d.bias"),
    }


def _no_heads(m: Metadata) -> dict[str, Any]:
    """Keys that `common` gives to everybody and that nothing here has."""
    m.get("attention.head_count"), m.get("feed_forward_length")
    return {"num_attention_heads": None}


def _state(m: Metadata, state: str, conv: str) -> dict[str, Any]:
    return {state: m["ssm.state_size"], conv: m["ssm.conv_kernel"]}


def _heads(m: Metadata, heads: str, width: str) -> dict[str, Any]:
    inner, count = m["ssm.inner_size"], m["ssm.time_step_rank"]
    if not all(isinstance(n, int) and n > 0 for n in (inner, count)) or inner % count:
        raise ModelError(f"{FILE}: {inner!r} channels are no multiple of {count!r} heads.")
    return {heads: count, width: inner // count}


def _has(m: Metadata, ending: str) -> bool:
    return any(name.endswith(ending) for name in m.shapes)


def each(m: Metadata, key: str) -> list[int]:
    """One whole number for each block, those that predict further tokens included."""
    said, blocks = m[key], m["block_count"]
    numbers = said if isinstance(said, list) else [said] * blocks
    if len(numbers) != blocks or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ModelError(f"{FILE}: {m.arch}.{key} must be one whole number, or one for each of the {blocks} blocks.")
    return numbers[: layers_of(m)]


def one_of(m: Metadata, key: str, numbers: Sequence[int]) -> int:
    """The number of all layers that have one."""
    found = sorted(set(numbers) - {0})
    if len(found) != 1:
        raise ModelError(f"{FILE}: {m.arch}.{key} must be the same number in every layer that has one.")
    return found[0]


# ---- Jamba --------------------------------------------------------------------------------------


def jamba(m: Metadata) -> dict[str, Any]:
    heads, inner, dim = each(m, "attention.head_count_kv"), m["ssm.inner_size"], m["embedding_length"]
    if not all(isinstance(n, int) and n > 0 for n in (inner, dim)) or inner % dim:
        raise ModelError(f"{FILE}: {inner!r} channels are no multiple of the width {dim!r}.")
    sparse = [f"blk.{i}.ffn_gate_inp.weight" in m.shapes for i in range(len(heads))]
    for key in ("attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count"):
        m.get(key)  # as wide as heads are, and nothing turns
    many = experts(m) if any(sparse) else {"num_experts": 1, "num_experts_per_tok": 1}
    m.get("expert_count"), m.get("expert_used_count")
    return {
        "num_key_value_heads": one_of(m, "attention.head_count_kv", heads),
        "intermediate_size": m["feed_forward_length"],
        **_every(m, "attn_layer", [n > 0 for n in heads]),
        **(_every(m, "expert_layer", sparse) if any(sparse) else {}),
        **many,
        **_state(m, "mamba_d_state", "mamba_d_conv"),
        "mamba_dt_rank": m["ssm.time_step_rank"],
        "mamba_expand": inner // dim,
        "mamba_conv_bias": _has(m, "ssm_conv1d.bias"),
        "mamba_inner_layernorms": _has(m, "ssm_dt_norm.weight"),
    }


def _every(m: Metadata, what: str, chosen: Sequence[bool]) -> dict[str, int]:
    """Layers at even distances, as period and offset."""
    first, *others = [i for i, yes in enumerate(chosen) if yes]
    period = others[0] - first if others else len(chosen)
    if [i % period == first for i in range(len(chosen))] != list(chosen):
        raise ModelError(f"{FILE}: a {m.arch} model of uneven layers ({what}) is not known.")
    return {f"{what}_period": period, f"{what}_offset": first}


# ---- Nemotron-H ---------------------------------------------------------------------------------


def nemotron_h(m: Metadata) -> dict[str, Any]:
    heads, widths = each(m, "attention.head_count_kv"), each(m, "feed_forward_length")
    sparse = [f"blk.{i}.ffn_gate_inp.weight" in m.shapes for i in range(len(heads))]
    for key in ("rope.freq_base", "rope.dimension_count", "rope.scaling.finetuned", "attention.layer_norm_epsilon"):
        m.get(key)  # nothing turns; one epsilon is written under two names
    if m.get("attention.value_length", m["attention.key_length"]) != m["attention.key_length"]:
        raise ModelError(f"{FILE}: values of another size than keys are not supported.")
    kinds = [_kind(*told) for told in zip(heads, widths, sparse, strict=True)]
    found = {
        "layers_block_type": kinds,
        "num_hidden_layers": None,
        "num_key_value_heads": one_of(m, "attention.head_count_kv", heads),
        "head_dim": m["attention.key_length"],
        "attention_bias": any(m.shapes.keys() & {f"blk.{i}.attn_q.bias" for i in range(len(heads))}) or query_biases(m),
        **_heads(m, "mamba_num_heads", "mamba_head_dim"),
        **_state(m, "ssm_state_size", "conv_kernel"),
        "n_groups": m["ssm.group_count"],
        "use_conv_bias": _has(m, "ssm_conv1d.bias"),
    }
    if "mlp" in kinds:
        plain = [width for width, kind in zip(widths, kinds, strict=True) if kind == "mlp"]
        found["intermediate_size"] = one_of(m, "feed_forward_length", plain)
    return {**found, **(_mixture(m) if any(sparse) else {})}


def _kind(kv_heads: int, width: int, sparse: bool) -> str:
    if kv_heads:
        return "full_attention"
    return ("moe" if sparse else "mlp") if width else "linear_attention"


def _mixture(m: Metadata) -> dict[str, Any]:
    groups = m.get("expert_group_count", 1) or 1
    latent = m.get("moe_latent_size")
    return {
        **experts(m),
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "moe_shared_expert_intermediate_size": m["expert_shared_feed_forward_length"],
        "n_shared_experts": m.get("expert_shared_count", 1),
        "norm_topk_prob": bool(m.get("expert_weights_norm", False)),
        "routed_scaling_factor": float(m.get("expert_weights_scale", 1.0)),
        "n_group": groups,
        "topk_group": m.get("expert_group_used_count", 1) or 1,
        **({"moe_latent_size": latent} if latent else {}),
    }


def one_norm_rules(m: Metadata) -> tuple[Rule, ...]:
    networks = [i for i, width in enumerate(each(m, "feed_forward_length")) if width]
    before = "|".join(map(str, networks)) or "none"
    return (Rename(rf"^blk\.({before})\.attn_norm\.", r"layers.\1.ffn_norm."), *mamba_rules(m))


def mamba1_rules(m: Metadata) -> tuple[Rule, ...]:
    return (Rename(AT + r"ssm_d$", r"layers.\1.mixer.D"), *mamba_rules(m)[1:2])
