"""Qwen3-Next and Qwen 3.5: three gated delta layers, then one of attention whose output is gated.

The norms' weights are stored less one, all but the one inside a delta layer; mlx files hold them whole.
"""

from __future__ import annotations

from ..spec import Attention, FeedForward, GatedDelta, Mixer, MoE, Norm, Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    Sizes,
    attention,
    decoder,
    gated,
    head_rules,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
)
from .config import Config
from .moe import experts_of, moe, refuse, router_rules, shared_rules, top_k
from .qwen_moe import sparse_layers
from .recurrent import conv_rules, kinds_of
from .rope import rope_of
from .rules import Drop, Rename, Rule, Split

_DELTA, _FULL = "linear_attention", "full_attention"


def qwen3_next(c: Config) -> Recipe:
    """The delta layers' projections lie fused, key head by key head."""
    s = sizes_of(c)
    experts = _experts(c, renorm=c.flag("norm_topk_prob", True))
    dense = gated(c)
    ffns: list[FeedForward] = [experts if yes else dense for yes in sparse_layers(c, s.layers)]
    return _hybrid(c, s, ffns, _fused(_delta(c)))


def qwen3_5(c: Config) -> Recipe:
    _later_keys(c)
    s = sizes_of(c)
    return _hybrid(c, s, [gated(c)] * s.layers, ())


def qwen3_5_moe(c: Config) -> Recipe:
    _later_keys(c)
    c.ignore("norm_topk_prob", "mlp_only_layers", "decoder_sparse_step", "intermediate_size")  # always the same
    s = sizes_of(c)
    return _hybrid(c, s, [_experts(c, renorm=True)] * s.layers, ())


def _later_keys(c: Config) -> None:
    c.ignore("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mamba_ssm_dtype")
    refuse(c, "output_gate_type", "swish")  # of the delta layers' norm


def _hybrid(c: Config, s: Sizes, ffns: list[FeedForward], rules: tuple[Rule, ...]) -> Recipe:
    period = c.count("full_attention_interval", 4)
    kinds = kinds_of(c, s.layers, lambda i: _DELTA if (i + 1) % period else _FULL, (_DELTA, _FULL))
    norm, tied_head = rms(c, offset=1.0), tied(c)
    mixers: dict[str, Mixer] = {_DELTA: _delta(c), _FULL: _attention(c, s, norm)}
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], ffns)
    names = (
        Drop(r"^(?:model\.)?mtp\.", "multi-token prediction"),
        *rules,
        *conv_rules(r"linear_attn"),
        rename_in_layer(r"linear_attn\.in_proj_(qkv|z|b|a)", r"mixer.\2"),
        rename_in_layer(r"linear_attn\.out_proj", "mixer.o"),
        rename_in_layer(r"linear_attn\.norm", "mixer.norm"),
        Rename(LAYER + r"linear_attn\.(A_log|dt_bias)$", r"layers.\1.mixer.\2"),
        *router_rules(),
        *shared_rules(),
        *experts_of(c),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, layers, norm, tied_head), names, folded=c.dialect == "mlx")


def _attention(c: Config, s: Sizes, norm: Norm) -> Attention:
    """Partial rope; every head's projection holds its query, then its gate."""
    bias = c.flag("attention_bias")
    return attention(
        c,
        s,
        rope=rope_of(c, s.head_dim, partial=0.25),
        qk_norm=norm,
        qkv_bias=bias,
        out_bias=bias,
        gate="packed" if c.flag("attn_output_gate", True) else None,
    )


def _delta(c: Config) -> GatedDelta:
    return GatedDelta(
        c.count("linear_num_key_heads", 16, high=1 << 14),
        c.count("linear_num_value_heads", 32, high=1 << 14),
        c.count("linear_key_head_dim", 128, high=1 << 14),
        c.count("linear_value_head_dim", 128, high=1 << 14),
        c.count("linear_conv_kernel_dim", 4, high=64),
        rms(c),
    )


def _experts(c: Config, *, renorm: bool) -> MoE:
    """One shared expert, gated by a sigmoid."""
    shared = gated(c, hidden="shared_expert_intermediate_size")
    return moe(c, Router(top_k(c), renorm=renorm), shared=shared, shared_gate=True)


def _fused(d: GatedDelta) -> tuple[Rule, ...]:
    """qkvz and ba, whose rows are grouped by key head: [q k v.. z..] and [b.. a..] for each."""
    share = d.v_heads // d.k_heads
    values = share * d.v_dim
    qkv, z, b, a = (rf"layers.\1.mixer.{x}.weight" for x in ("qkv", "z", "b", "a"))
    block = LAYER + r"linear_attn\.in_proj_"
    return (
        Split(block + r"qkvz\.weight$", (qkv, qkv, qkv, z), (d.k_dim, d.k_dim, values, values), groups=d.k_heads),
        Split(block + r"ba\.weight$", (b, a), (share, share), groups=d.k_heads),
    )
