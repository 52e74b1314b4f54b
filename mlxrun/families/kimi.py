"""Kimi Linear and Ling 3: a few delta layers whose channels decay each on its own, then one of latent attention.

Kimi's attention has no positions, Ling's has a gate a head. Experts are DeepSeek's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..spec import ChannelDelta, FeedForward, LatentAttention, Mixer, ModelError
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    Sizes,
    UnknownFamily,
    decoder,
    gated,
    head_rules,
    layers_of,
    pre_norm_layers,
    rename_in_layer,
    rms,
    tied,
    vocab_of,
)
from .config import Config
from .deepseek import latent_attention, latent_of, latent_rules
from .moe import (
    experts_of,
    moe,
    prediction_rules,
    refuse,
    router_rules,
    shared_experts,
    shared_rules,
    sigmoid_router,
    sparse_kinds,
)
from .recurrent import apart_rules, kinds_of
from .rules import Drop, Flatten, Rename, Rule

_DELTA, _FULL = "linear_attention", "full_attention"


def kimi_linear(c: Config) -> Recipe:
    _always(c)
    linear, layers = _linear(c), layers_of(c)
    width = linear.count("head_dim", 128, high=1 << 14)
    heads, taps = linear.count("num_heads", 32, high=1 << 14), linear.count("short_conv_kernel_size", 4, high=64)
    delta = ChannelDelta(heads, width, taps, width, rms(c, 1e-5))
    return _hybrid(c, delta, latent_attention(c, None), _kinds(c, linear, layers), 1)


def bailing_hybrid(c: Config) -> Recipe:
    """Ling 3; its file says neither bottlenecks nor a decay without a floor, but may."""
    if "group_norm_size" in c:
        raise UnknownFamily(f"{c.file}: a {c.family} model with group_norm_size (Ling 2.5) has no recipe here.")
    for key, always in {"score_function": "sigmoid", "no_kda_lora": True, "rope_interleave": True}.items():
        refuse(c, key, always)
    for key in ("use_qkv_bias", "use_bias"):
        refuse(c, key, False)
    refuse(c, "moe_router_enable_expert_bias", True)
    c.ignore("mtp_loss_scaling_factor")
    latent = replace(latent_of(c, interleaved=True, base=6e6), gate=True)
    period = c.count("layer_group_size", 6)
    floor = c.number("kda_lower_bound", -5.0)
    if floor >= 0:
        raise ModelError(f"{c.file}: kda_lower_bound must be below 0, not {floor:g}.")
    width = c.count("head_dim", 128, high=1 << 14)  # transformers saves the rope's there, and this one beside it
    delta = ChannelDelta(
        c.count("linear_num_heads", latent.heads, high=1 << 14),
        c.count("linear_head_dim", width, high=1 << 14),
        c.count("linear_conv_kernel_dim", c.count("short_conv_kernel_size", 4, high=64), high=64),
        None,
        rms(c),
        floor if c.flag("kda_safe_gate", True) else None,
    )
    kinds = kinds_of(c, layers_of(c), lambda i: _DELTA if (i + 1) % period else _FULL, (_DELTA, _FULL))
    return _hybrid(c, delta, latent, kinds, 2)


def _hybrid(c: Config, delta: ChannelDelta, latent: LatentAttention, kinds: tuple[str, ...], first: int) -> Recipe:
    refuse(c, "hidden_act", "silu")
    dim, layers, tied_head, norm = c.count("hidden_size", high=1 << 20), len(kinds), tied(c), delta.norm
    s = Sizes(dim, vocab_of(c), layers, latent.heads, 1, latent.v_dim)
    mixers: dict[str, Mixer] = {_DELTA: delta, _FULL: latent}
    wide = "moe_shared_expert_intermediate_size"
    shared = shared_experts(c, hidden=wide if wide in c else "moe_intermediate_size")
    experts, dense = moe(c, sigmoid_router(c), shared=shared), gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse_kinds(c, layers, first)]
    block = r"(?:block_sparse_moe|mlp)"
    rules = (
        Drop(r"^model\.mtp", "multi-token prediction"),
        *prediction_rules(c, layers),
        Rename(r"^model\.word_embeddings\.", "model.embed_tokens."),
        Rename(LAYER + r"attention\.", r"layers.\1.self_attn."),
        rename_in_layer(r"self_attn\.dense", "mixer.o"),
        *_delta_rules(),
        *latent_rules(latent),
        Rename(LAYER + block + r"\.gate\.expert_bias$", r"layers.\1.ffn.select_bias"),
        rename_in_layer(block + r"\.gate\.gate_proj", "ffn.router"),
        *router_rules(block),
        Rename(LAYER + block + r"\.e_score_correction_bias$", r"layers.\1.ffn.select_bias"),
        *shared_rules(block),
        rename_in_layer(block + r"\.(gate|up|down)_proj", r"ffn.\2"),
        *experts_of(c, block),
        *(experts_of(c, block, "w1 w3 w2") if c.dialect != "mlx" else ()),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    context = c.count("model_max_length", c.count("max_position_embeddings", 1 << 20))
    stack = pre_norm_layers(norm, [mixers[kind] for kind in kinds], ffns)
    return Recipe(decoder(c, s, stack, norm, tied_head, context=context), rules)


def _always(c: Config) -> None:
    refuse(c, "mla_use_nope", True)
    refuse(c, "moe_router_activation_func", "sigmoid")
    refuse(c, "moe_layer_freq", 1)
    c.ignore("rope_theta", "rope_scaling", "use_grouped_topk")  # written, although nothing turns


def _linear(c: Config) -> Config:
    """The delta layers' sizes: an object of their own in older files."""
    written = c.get("linear_attn_config", {})
    if not isinstance(written, Mapping):
        raise ModelError(f"{c.file}: linear_attn_config must be an object.")
    newer = {"head_dim": "linear_head_dim", "num_heads": "linear_num_heads"}
    newer["short_conv_kernel_size"] = "linear_conv_kernel_dim"
    strange = sorted(set(written) - {*newer, "full_attn_layers", "kda_layers"})
    if strange:
        raise ModelError(f"{c.file}: linear_attn_config with {strange[0]!r} is not known.")
    found = {ours: c.get(theirs) for ours, theirs in newer.items()}
    return Config({**found, **written}, file=f"{c.file}, linear_attn_config")


def _kinds(c: Config, linear: Config, layers: int) -> tuple[str, ...]:
    """Older files count their layers from one."""
    full = linear.get("full_attn_layers")
    if full is None:
        return kinds_of(c, layers, lambda i: _FULL if i and i % 4 == 0 else _DELTA, (_DELTA, _FULL))
    delta = linear.get("kda_layers")
    if not isinstance(full, list) or not isinstance(delta, list) or sorted(full + delta) != list(range(1, layers + 1)):
        raise ModelError(f"{c.file}: full_attn_layers and kda_layers must name each of the {layers} layers once.")
    older = tuple(_FULL if i in full else _DELTA for i in range(1, layers + 1))
    if kinds_of(c, layers, older.__getitem__, (_DELTA, _FULL)) != older:
        raise ModelError(f"{c.file}: layer_types and linear_attn_config name different layers.")
    return older


def _delta_rules() -> tuple[Rule, ...]:
    block = LAYER + r"self_attn\.(?:forget_gate\.)?"
    return (
        *apart_rules("self_attn"),
        Flatten(block + r"(A_log|dt_bias)$", r"layers.\1.mixer.\2"),
        Rename(block + r"f_proj\.", r"layers.\1.mixer.decay."),
        rename_in_layer(r"self_attn\.g_proj", "mixer.gate"),
        Rename(block + r"f_a_proj\.", r"layers.\1.mixer.decay_in."),
        Rename(block + r"f_b_proj\.", r"layers.\1.mixer.decay."),
        rename_in_layer(r"self_attn\.g_a_proj", "mixer.gate_in"),
        rename_in_layer(r"self_attn\.g_b_proj", "mixer.gate"),
        rename_in_layer(r"self_attn\.b_proj", "mixer.b"),
        rename_in_layer(r"self_attn\.o_norm", "mixer.norm"),
    )
