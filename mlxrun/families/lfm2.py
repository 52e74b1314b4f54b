"""LFM2: short convolutions between two gates, a few layers of attention, one network or experts."""

from __future__ import annotations

from collections.abc import Sequence

from ..spec import FeedForward, Mixer, Router, ShortConv
from .common import (
    LAYER,
    NAMES,
    Recipe,
    attention,
    decoder,
    gated,
    head_rules,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
)
from .config import Config
from .moe import experts_of, moe, refuse, router_rules, top_k
from .recurrent import conv_rules, kinds_of
from .rope import rope_of
from .rules import Rename, Rule

_CONV, _FULL = "conv", "full_attention"
# of older files; nobody reads them
_INIT = ("block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init", "conv_use_xavier_init")
_SAID_TWICE = ("block_dim", "block_norm_eps", "block_use_swiglu", "conv_dim", "conv_dim_out", "num_heads", "theta")


def lfm2(c: Config) -> Recipe:
    s = sizes_of(c)
    hidden = c.count("block_ff_dim", c.count("intermediate_size", high=1 << 22), high=1 << 22)
    if c.flag("block_auto_adjust_ff_dim", True):
        multiple = c.count("block_multiple_of", 256, high=1 << 16)
        hidden = int(c.number("block_ffn_dim_multiplier", 1.0, above=0) * int(2 * hidden / 3))
        hidden = multiple * -(-hidden // multiple)
    c.ignore("block_multiple_of", "block_ffn_dim_multiplier")
    return _hybrid(c, [gated(Config({"intermediate_size": hidden}))] * s.layers, ())


def lfm2_moe(c: Config) -> Recipe:
    """A sigmoid router; its bias only chooses."""
    dense, block = gated(c), "feed_forward"
    router = Router(
        top_k(c),
        "sigmoid",
        renorm=c.flag("norm_topk_prob", True),
        renorm_eps=1e-6,
        scale=c.number("routed_scaling_factor", 1.0),
        select_bias=c.flag("use_expert_bias", True),
    )
    experts, first = moe(c, router), c.count("num_dense_layers", 2, low=0)
    ffns: list[FeedForward] = [dense if i < first else experts for i in range(sizes_of(c).layers)]
    rules = (
        *router_rules(block),
        Rename(LAYER + block + r"\.expert_bias$", r"layers.\1.ffn.select_bias"),
        *experts_of(c, block, "w1 w3 w2"),
    )
    return _hybrid(c, ffns, rules)


def _hybrid(c: Config, ffns: Sequence[FeedForward], rules: tuple[Rule, ...]) -> Recipe:
    refuse(c, "hidden_act", "silu")
    c.ignore(*_INIT, *_SAID_TWICE, "use_pos_enc")
    s, norm = sizes_of(c), rms(c, 1e-5, "norm_eps")
    attends = c.get("full_attn_idxs", list(range(s.layers)))
    kinds = kinds_of(c, s.layers, lambda i: _FULL if i in attends else _CONV, (_CONV, _FULL))
    mixers: dict[str, Mixer] = {
        _CONV: ShortConv(s.dim, c.count("conv_L_cache", 3, high=64), c.flag("conv_bias")),
        _FULL: attention(c, s, rope=rope_of(c, s.head_dim, base=1e6), qk_norm=norm),
    }
    tied_head = c.flag("tie_embedding", c.flag("tie_word_embeddings", True))
    names = (
        *conv_rules("conv", conv=r"conv"),
        rename_in_layer(r"conv\.in_proj", "mixer.inp"),
        rename_in_layer(r"conv\.out_proj", "mixer.o"),
        rename_in_layer(r"self_attn\.out_proj", "mixer.o"),
        rename_in_layer("operator_norm", "mixer_norm"),
        rename_in_layer("ffn_norm", "ffn_norm"),
        *rules,
        *(
            rename_in_layer(rf"feed_forward\.(?:{theirs}|{ours}_proj)", f"ffn.{ours}")
            for theirs, ours in (("w1", "gate"), ("w3", "up"), ("w2", "down"))
        ),
        Rename(r"^(?:model\.)?embedding_norm\.", "norm."),
        *head_rules(tied_head),
        *NAMES,
    )
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], ffns)
    return Recipe(decoder(c, s, layers, norm, tied_head), names)
