"""Llama and its kin: pre-norm RMSNorm, grouped-query attention, gated feed-forward.

Whether projections carry biases is a fact of the family or of its config, never read off the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..spec import Dense, FeedForward, ModelError, Temperature
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    activation,
    attention,
    decoder,
    gated,
    head_rules,
    layer_types,
    layers_of,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
    with_attention,
    with_ffn,
)
from .config import Config
from .moe import WIDEST, refuse
from .rope import rope_of, rope_parameters
from .rules import Drop, Rename, Split


@dataclass(frozen=True, slots=True)
class Silent:
    """What a family assumes, or its file never says."""

    base: float = 10_000.0  # of the rope
    interleaved: bool = False  # which pairs it turns
    eps: float = 1e-6
    eps_key: str = "rms_norm_eps"
    window: int | None = None
    tied: bool = False


def llama_like(
    c: Config,
    kinds: tuple[str, ...],
    silent: Silent = Silent(),
    *,
    mlp_bias: bool = False,
    ffn: FeedForward | None = None,
    **changes: Any,
) -> Recipe:
    """The shape all of them share; `kinds` is the type of each layer, `ffn` stands where it is no gated network of the
    usual names, `changes` go to the attention."""
    s, norm, tied_head = sizes_of(c), rms(c, silent.eps, silent.eps_key), tied(c, silent.tied)
    mixers = {}
    for kind in set(kinds):
        here: dict[str, Any] = {"window": window_of(c, kind, silent.window), **changes}
        if "rope" not in changes:
            here["rope"] = rope_of(c, s.head_dim, kind, silent.interleaved, base=silent.base)
        mixers[kind] = attention(c, s, **here)
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], [ffn or gated(c, bias=mlp_bias)] * s.layers)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*head_rules(tied_head), *NAMES, *PRE))


def llama(c: Config) -> Recipe:
    c.ignore("pretraining_tp")
    kinds = layer_types(c, layers_of(c), lambda i: "full_attention", ("full_attention",))
    bias = c.flag("attention_bias")
    return llama_like(c, kinds, qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"))


def mistral(c: Config) -> Recipe:
    """Every layer slides where a window is written: v0.1, and files that do not mention it."""
    slides = c.get("sliding_window") is not None or "sliding_window" not in c.data
    c.ignore("layer_types")  # the reference does not read it either
    return llama_like(
        c, ("sliding_attention" if slides else "full_attention",) * layers_of(c), silent=Silent(window=4096)
    )


def ministral(c: Config) -> Recipe:
    usual = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    return llama_like(c, layer_types(c, layers_of(c), lambda i: usual))


def ministral3(c: Config) -> Recipe:
    """Queries grow with the logarithm of their position beyond the trained length."""
    c.ignore("layer_types")
    p = rope_parameters(c)
    beta, floor = p.get("llama_4_scaling_beta"), p.get("original_max_position_embeddings")
    temperature = None
    if beta is not None:
        if not isinstance(floor, int):
            raise ModelError(f"{c.file}: llama_4_scaling_beta needs original_max_position_embeddings beside it.")
        temperature = Temperature(float(beta), float(floor))
    kind = "full_attention" if c.get("sliding_window") is None else "sliding_attention"
    return llama_like(c, (kind,) * layers_of(c), Silent(eps=1e-5), temperature=temperature)


def qwen2(c: Config) -> Recipe:
    """Biases on q, k and v."""
    return llama_like(c, qwen_kinds(c), qkv_bias=True)


def qwen3(c: Config) -> Recipe:
    """Qwen 2 without those biases, with a norm on every query and key head."""
    bias = c.flag("attention_bias")
    return llama_like(c, qwen_kinds(c), qk_norm=rms(c), qkv_bias=bias, out_bias=bias)


def qwen_kinds(c: Config) -> tuple[str, ...]:
    """Windows, if used at all, begin at layer max_window_layers."""
    slides, first = c.flag("use_sliding_window"), c.count("max_window_layers", 28, low=0)
    slides = c.get("sliding_window") is not None and slides
    return layer_types(c, layers_of(c), lambda i: "sliding_attention" if slides and i >= first else "full_attention")


def smollm3(c: Config) -> Recipe:
    """Every fourth layer has no positions."""
    layers = layers_of(c)
    c.ignore("max_window_layers")  # carried along from Qwen; never read
    period = c.count("no_rope_layer_interval", 4)
    turns = c.get("no_rope_layers") or [int((i + 1) % period != 0) for i in range(layers)]
    if not isinstance(turns, list) or len(turns) != layers:
        raise ModelError(f"{c.file}: no_rope_layers must list a 0 or 1 for each of the {layers} layers.")
    slides = c.flag("use_sliding_window") and c.get("sliding_window") is not None
    kinds = layer_types(c, layers, lambda i: "sliding_attention" if slides and not turns[i] else "full_attention")
    bias = c.flag("attention_bias")
    whole = llama_like(c, kinds, Silent(base=2e6, tied=True), mlp_bias=c.flag("mlp_bias"), qkv_bias=bias, out_bias=bias)
    return with_attention(whole, lambda i, a: a if turns[i] else replace(a, rope=None))


def eurobert(c: Config) -> Recipe:
    """An encoder: every row sees all others."""
    c.ignore("mask_token_id", "clf_pooling", "tie_word_embeddings")
    bias = c.flag("attention_bias")
    kinds = ("full_attention",) * layers_of(c)
    found = llama_like(
        c, kinds, Silent(eps=1e-5), mlp_bias=c.flag("mlp_bias"), causal=False, qkv_bias=bias, out_bias=bias
    )
    head = Drop(r"^(?:lm_head|classifier|dense)\.", "the task head")
    whole = replace(found.decoder, kind="encoder", tied=True)
    return replace(found, decoder=whole, rules=(head, *found.rules))


def seed_oss(c: Config) -> Recipe:
    """Biases on q, k and v, and a switch for the one on o."""
    c.ignore("residual_dropout")
    bias, out = c.flag("attention_bias", True), c.flag("attention_out_bias")
    return llama_like(c, _full(c), mlp_bias=c.flag("mlp_bias"), qkv_bias=bias, out_bias=out)


def mimo(c: Config) -> Recipe:
    """Qwen 2 with layers that predict further tokens."""
    refuse(c, "attention_bias", True)
    further = Drop(r"^model\.mtp_layers\.", "multi-token prediction")
    c.ignore("num_nextn_predict_layers")
    whole = qwen2(c)
    return replace(whole, rules=(further, *whole.rules))


def internlm2(c: Config) -> Recipe:
    """Its own names; one projection holds the queries, the key and the value of each group."""
    bias, s = c.flag("bias", True), sizes_of(c)
    whole = llama_like(c, _full(c), qkv_bias=bias, out_bias=bias)
    shared = s.heads // s.kv_heads
    parts = tuple(rf"layers.\1.mixer.{x}.\2" for x in "qkv")
    rules = (
        Split(
            LAYER + r"attention\.wqkv\.(weight|bias)$", parts, (shared * s.head_dim, s.head_dim, s.head_dim), s.kv_heads
        ),
        Drop(r"attention\.(?:rope|rotary_emb)\.inv_freq$"),
        Rename(r"^model\.tok_embeddings\.", "embed."),
        rename_in_layer("attention_norm", "mixer_norm"),
        rename_in_layer("ffn_norm", "ffn_norm"),
        rename_in_layer(r"attention\.wo", "mixer.o"),
        rename_in_layer(r"feed_forward\.w1", "ffn.gate"),
        rename_in_layer(r"feed_forward\.w2", "ffn.down"),
        rename_in_layer(r"feed_forward\.w3", "ffn.up"),
        *head_rules(whole.decoder.tied, "output"),
    )
    return replace(whole, rules=(*rules, *whole.rules))


def helium(c: Config) -> Recipe:
    silent = Silent(base=100_000.0, interleaved=True, eps=1e-8)
    return llama_like(c, _full(c), silent, mlp_bias=c.flag("mlp_bias"), qkv_bias=c.flag("attention_bias"))


def internlm3(c: Config) -> Recipe:
    """Its own names for the two switches of biases."""
    bias, mlp_bias = (
        c.flag(own, c.flag(usual)) for own, usual in (("qkv_bias", "attention_bias"), ("bias", "mlp_bias"))
    )
    return llama_like(c, _full(c), Silent(eps=1e-5), mlp_bias=mlp_bias, qkv_bias=bias, out_bias=bias)


def iquestcoder(c: Config) -> Recipe:
    refuse(c, "clip_qkv")
    refuse(c, "use_sliding_window", False)
    return llama(c)


def arcee(c: Config) -> Recipe:
    """A plain network with squared ReLU."""
    dense = Dense(
        c.count("intermediate_size", high=WIDEST), activation(c, "relu2"), gated=False, bias=c.flag("mlp_bias")
    )
    return with_ffn(llama(c), [dense] * layers_of(c))


def _full(c: Config) -> tuple[str, ...]:
    return ("full_attention",) * layers_of(c)
