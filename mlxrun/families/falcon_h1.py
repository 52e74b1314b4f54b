"""Falcon H1: attention and Mamba 2 side by side in every layer, with a multiplier on each projection.

mlx files have most multipliers folded into their weights; the one of keys and what goes into values are not.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, Layer, Mamba2, ModelError, Norm, ScaledDense, SideBySide
from .common import NAMES, Recipe, Sizes, attention, decoder, gated, head_rules, rename_in_layer, rms, sizes_of, tied
from .config import Config
from .moe import refuse
from .recurrent import mamba_rules, time_steps
from .rules import Rename, Rule

_BIASES = ("attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias")


def falcon_h1(c: Config) -> Recipe:
    _unused(c)
    folded = c.dialect == "mlx"
    if folded and any(c.flag(key) for key in _BIASES):
        raise ModelError(f"{c.file}: an mlx checkpoint of {c.family} with biases has lost their multipliers.")
    s, norm, tied_head = sizes_of(c), rms(c, 1e-5), tied(c)
    gate, out = _multipliers(c, "mlp_multipliers", 2)
    dense = gated(c, bias=c.flag("mlp_bias"))
    embed, head = c.number("embedding_multiplier", 1.0, above=0), c.number("lm_head_multiplier", 1.0)
    layer = Layer(
        _mixer(c, s, norm, folded),
        dense if folded else ScaledDense(dense, gate, out),
        mixer_norm=norm,
        ffn_norm=norm,
    )
    whole = decoder(
        c,
        s,
        [layer] * s.layers,
        norm,
        tied_head,
        embed_scale=1.0 if folded else embed,
        logit_scale=head if not folded else head / embed if tied_head else 1.0,
    )
    return Recipe(whole, (*_rules(), *head_rules(tied_head), *NAMES))


def _unused(c: Config) -> None:
    refuse(c, "mamba_use_mlp", True)
    refuse(c, "attn_layer_indices")
    refuse(c, "layers_block_type")
    c.ignore("mamba_chunk_size", "num_logits_to_keep", "mlp_expansion_factor", "mamba_expand", "rope_scaling")
    c.ignore("time_step_min", "time_step_max", "time_step_floor", "time_step_rank")  # training


def _multipliers(c: Config, key: str, count: int) -> list[float]:
    written = c.get(key, [1.0] * count)
    if not isinstance(written, list) or len(written) != count:
        raise ModelError(f"{c.file}: {key} must be a list of {count} numbers, not {written!r}.")
    each = Config({str(i): value for i, value in enumerate(written)}, file=f"{c.file}: {key}")
    return [each.number(str(i)) for i in range(count)]


def _mixer(c: Config, s: Sizes, norm: Norm, folded: bool) -> SideBySide:
    """Scores are linear in keys, so their multiplier goes into the scores' scale. In mlx files queries and keys hold
    what goes into attention, and values do not; what comes out is linear in those."""
    bias = c.flag("attention_bias")
    full: Attention = attention(c, s, qkv_bias=bias, out_bias=bias)
    full = replace(full, scale=full.scale * c.number("key_multiplier", 1.0))
    inside = c.number("attention_in_multiplier", 1.0)
    outside = c.number("attention_out_multiplier", 1.0), c.number("ssm_out_multiplier", 1.0)
    into = c.number("ssm_in_multiplier", 1.0)
    mamba = _mamba(c, s, norm)
    if folded:
        return SideBySide(full, replace(mamba, scales=None), attention_out=inside)
    return SideBySide(full, mamba, inside, outside[0], into, outside[1])


def _mamba(c: Config, s: Sizes, norm: Norm) -> Mamba2:
    heads, groups = c.count("mamba_n_heads", 128, high=1 << 14), c.count("mamba_n_groups", 1, high=1 << 14)
    inner = c.count("mamba_d_ssm", c.count("mamba_expand", 2, high=64) * s.dim if "mamba_expand" in c else 1024)
    written = c.get("mamba_d_head", "auto")
    head_dim = inner // heads if written == "auto" else c.count("mamba_d_head", high=1 << 14)
    if heads * head_dim != inner:
        raise ModelError(f"{c.file}: {heads} mamba_n_heads of {head_dim} do not make mamba_d_ssm {inner}.")
    low, high = time_steps(c)
    normed = c.flag("mamba_rms_norm")
    gate, x, b, state, step = _multipliers(c, "ssm_multipliers", 5)
    return Mamba2(
        heads,
        head_dim,
        groups,
        c.count("mamba_d_state", 256, high=1 << 16),
        c.count("mamba_d_conv", 4, high=64),
        norm if normed else None,
        norm_groups=groups,
        dt_min=low,
        dt_max=high,
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        out_bias=c.flag("projectors_bias"),
        norm_first=c.flag("mamba_norm_before_gate", True),
        scales=(gate, x, b, state, step),
    )


def _rules() -> tuple[Rule, ...]:
    return (
        *mamba_rules("mamba", dst="mixer.mamba"),
        rename_in_layer(r"self_attn\.([qkvo])_proj", r"mixer.attention.\2"),
        rename_in_layer(r"feed_forward\.(gate|up|down)_proj", r"ffn.\2"),
        rename_in_layer("input_layernorm", "mixer_norm"),
        rename_in_layer("pre_ff_layernorm", "ffn_norm"),
        Rename(r"^(?:model\.)?final_layernorm\.", "norm."),
    )
