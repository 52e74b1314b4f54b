"""OLMo Hybrid: three gated delta layers normed before, then one of attention normed after, mostly without positions."""

from __future__ import annotations

from collections.abc import Mapping

from ..spec import GatedDelta, Layer, Norm
from .common import LAYER, NAMES, Recipe, attention, decoder, gated, head_rules, rename_in_layer, rms, sizes_of, tied
from .config import Config
from .recurrent import apart_rules, kinds_of
from .rope import rope_of
from .rules import Rename, Rule

_DELTA, _FULL = "linear_attention", "full_attention"


def olmo_hybrid(c: Config) -> Recipe:
    c.ignore("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor")
    s, norm, bias, tied_head = sizes_of(c), rms(c), c.flag("attention_bias"), tied(c)
    written = c.get("rope_parameters")
    still = "rope_theta" in c.data and c.data["rope_theta"] is None
    still |= isinstance(written, Mapping) and "rope_theta" in written and written["rope_theta"] is None
    full = attention(
        c,
        s,
        rope=None if still else rope_of(c, s.head_dim),
        qk_norm=norm,
        qk_norm_scope="all",
        qkv_bias=bias,
        out_bias=bias,
    )
    delta, ffn = _delta(c, s.heads), gated(c)
    kinds = kinds_of(c, s.layers, lambda i: _FULL if i % 4 == 3 else _DELTA, (_DELTA, _FULL))
    of_kind = {
        _DELTA: Layer(delta, ffn, mixer_norm=norm, ffn_norm=norm),
        _FULL: Layer(full, ffn, mixer_post=norm, ffn_post=norm),
    }
    rules = (*_rules(kinds), *head_rules(tied_head), *NAMES)
    return Recipe(decoder(c, s, [of_kind[kind] for kind in kinds], norm, tied_head), rules)


def _delta(c: Config, heads: int) -> GatedDelta:
    k_heads = c.count("linear_num_key_heads", heads, high=1 << 14)
    k_dim = c.count("linear_key_head_dim", int(0.75 * c.count("hidden_size") / k_heads), high=1 << 14)
    return GatedDelta(
        k_heads,
        c.count("linear_num_value_heads", heads, high=1 << 14),
        k_dim,
        c.count("linear_value_head_dim", 2 * k_dim, high=1 << 14),
        c.count("linear_conv_kernel_dim", 4, high=64),
        Norm(1e-5),  # the reference's own, whatever rms_norm_eps says
        apart=True,
        strength=2.0 if c.flag("linear_allow_neg_eigval", True) else 1.0,
    )


def _rules(kinds: tuple[str, ...]) -> tuple[Rule, ...]:
    """The same name is that of a norm after attention, and of one before a delta layer's network."""
    full = "|".join(str(i) for i, kind in enumerate(kinds) if kind == _FULL) or "(?!)"
    after = rf"^(?:model\.)?layers\.({full})\."
    return (
        Rename(after + r"(?:post_attention_layernorm|feedforward_layer_norm)\.", r"layers.\1.mixer_post."),
        Rename(after + r"post_feedforward_layernorm\.", r"layers.\1.ffn_post."),
        rename_in_layer("(?:input_layernorm|attention_layer_norm)", "mixer_norm"),
        rename_in_layer("(?:post_attention_layernorm|feedforward_layer_norm)", "ffn_norm"),
        *apart_rules("linear_attn"),
        rename_in_layer(r"linear_attn\.([qkvabo])_proj", r"mixer.\2"),
        rename_in_layer(r"linear_attn\.g_proj", "mixer.z"),
        rename_in_layer(r"linear_attn\.o_norm", "mixer.norm"),
        Rename(LAYER + r"linear_attn\.(A_log|dt_bias)$", r"layers.\1.mixer.\2"),
    )
