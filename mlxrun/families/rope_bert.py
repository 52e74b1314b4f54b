"""Encoders of BERT's shape whose positions are turns of query and key heads: Nomic's, Alibaba's GTE, Jina's third.

Norms after adding, token types, no final norm. Each is read as its authors spell it and as transformers does.
"""

from __future__ import annotations

from typing import Any

from ..spec import Dense, Layer, ModelError, Norm, RankingHead, Rope
from .bert import HEAD, ranks
from .common import (
    Recipe,
    activation,
    attention,
    context_of,
    decoder,
    layer_norm,
    rename_in_layer,
    sizes_of,
    split_qkv,
)
from .config import Config
from .rope import rope_from, rope_of, rope_parameters, scaling_of
from .rules import Drop, Rename, Rule, Split

TOP = r"^(?:nomic_bert\.|bert\.|new\.|gte\.|roberta\.)?"
AT = TOP + r"(?:encoder\.)?layers?\.(\d+)\."
GLU = {"swiglu": "silu", "geglu": "gelu"}


def nomic_bert(c: Config) -> Recipe:
    """Gated; only what its authors write may have biases."""
    theirs = "n_embd" in c
    if theirs:
        c.ignore(
            "dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln", "pad_vocab_size_multiple", "use_flash_attn"
        )
        c.ignore("use_xentropy", "reorder_and_upcast_attn", "max_trained_positions", "tie_word_embeddings")
        c.ignore("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type")
        c.ignore("summary_use_proj")
        _refuse(c, scale_attn_weights=True, rotary_emb_fraction=1.0)
    bias = theirs and c.flag("mlp_fc1_bias")
    act: Any = c.choice("hidden_act", GLU, "swiglu") if theirs else activation(c, "silu")
    dense = Dense(c.count("intermediate_size"), act, bias=bias, out_bias=theirs and c.flag("mlp_fc2_bias"))
    rope = rope_of(c, sizes_of(c).head_dim, interleaved=c.flag("rotary_emb_interleaved"), base=1000.0)
    context = context_of(c, 2048)
    if c.get("rotary_scaling_factor") is not None:  # positions beyond what was trained are stretched as they come
        context = min(context, c.count("max_trained_positions", 2048))
    norm, bias = layer_norm(c, 1e-12, "layer_norm_epsilon" if theirs else "layer_norm_eps"), c.flag("qkv_proj_bias")
    return _recipe(c, norm, dense, rope, bias=theirs and bias, context=context)


def gte(c: Config) -> Recipe:
    """Gated, with a bias on the last matrix alone."""
    c.ignore("unpad_inputs", "use_memory_efficient_attention", "logn_attention_clip1", "tie_word_embeddings")
    _refuse(c, pack_qkv=True, layer_norm_type="layer_norm", position_embedding_type="rope")
    dense = Dense(c.count("intermediate_size"), activation(c, "gelu"), out_bias=True)
    return _recipe(c, layer_norm(c, 1e-12), dense, _stretched(c), bias=True)


def jina_embeddings_v3(c: Config) -> Recipe:
    """Plain, with biases everywhere. What adapts it to a task lies beside it, and is not loaded."""
    c.ignore("tie_word_embeddings")
    dense = Dense(c.count("intermediate_size"), activation(c, "gelu"), gated=False, bias=True)
    rope = rope_of(c, sizes_of(c).head_dim, base=20_000.0)
    return _recipe(c, layer_norm(c, 1e-5), dense, rope, bias=True)


def _stretched(c: Config) -> Rope:
    """What GTE's authors call ntk: a larger base, and a little slower for all."""
    p = rope_parameters(c, base=160_000.0)
    dims = sizes_of(c).head_dim
    if scaling_of(p) == "ntk":
        factor = float(p.pop("factor", 1.0))
        p = {**p, "rope_theta": p["rope_theta"] * factor, "type": "linear", "factor": factor ** (2 / dims)}
        p.pop("rope_type", None)
    return rope_from(c, p, dims)


def _refuse(c: Config, **known: Any) -> None:
    for key, value in known.items():
        found = c.get(key, value)
        if found != value:
            raise ModelError(f"{c.file}: a {c.family} model with {key} {found!r} is not known; only {value!r} is.")


def _recipe(c: Config, norm: Norm, dense: Dense, rope: Rope, *, bias: bool, context: int | None = None) -> Recipe:
    """`bias`: of all that attention multiplies by."""
    s = sizes_of(c)
    mixer = attention(c, s, rope=rope, causal=False, qkv_bias=bias, out_bias=bias)
    layer = Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm, wiring="post")
    whole = decoder(
        c,
        s,
        [layer] * s.layers,
        None,
        True,
        context=context,
        kind="encoder",
        embed_norm=norm,
        token_types=c.count("type_vocab_size", 2 if c.family == "nomic_bert" else 1, low=0),
        ranking=RankingHead("first", "tanh") if ranks(c) else None,
    )
    return Recipe(whole, (*_head(c), *_rules(c)))


def _head(c: Config) -> tuple[Rule, ...]:
    pooler = TOP + r"pooler\."
    if not ranks(c):
        return (Drop(pooler, "the pooler"), Drop(r"^classifier\.", HEAD))
    if c.family == "jina_embeddings_v3":
        own = (Rename(r"^classifier\.dense\.", "rank.dense."), Rename(r"^classifier\.out_proj\.", "rank.score."))
        return (*own, Drop(pooler, "the pooler"))
    return (Rename(pooler + r"dense\.", "rank.dense."), Rename(r"^classifier\.", "rank.score."))


def _rules(c: Config) -> tuple[Rule, ...]:
    s = sizes_of(c)
    up_gate = tuple(rf"layers.\1.ffn.{part}.weight" for part in ("up", "gate"))
    return (
        Drop(r"^(?:cls|lm_head|qa_outputs)\.", HEAD),
        Drop(r"(?:position_ids|token_type_ids|inv_freq)$"),
        Rename(TOP + r"embeddings\.word_embeddings\.", "embed."),
        Rename(TOP + r"embeddings\.token_type_embeddings\.", "token_types."),
        Rename(TOP + r"(?:embeddings\.LayerNorm|emb_ln)\.", "embed_norm."),
        split_qkv(s, r"(?:attn\.Wqkv|mixer\.Wqkv|attention\.qkv_proj)", AT),
        Split(AT + r"mlp\.up_gate_proj\.weight$", up_gate),
        rename_in_layer(r"self_attn\.([qkvo])_proj", r"mixer.\2", AT),
        rename_in_layer(r"(?:attn\.out_proj|mixer\.out_proj|attention\.o_proj)", "mixer.o", AT),
        rename_in_layer(r"(?:post_attention_layernorm|norm1|attn_ln)", "mixer_norm", AT),
        rename_in_layer(r"(?:post_mlp_layernorm|norm2|mlp_ln)", "ffn_norm", AT),
        rename_in_layer(r"mlp\.(gate|up|down)_proj", r"ffn.\2", AT),
        rename_in_layer(r"mlp\.fc11", "ffn.up", AT),
        rename_in_layer(r"mlp\.fc12", "ffn.gate", AT),
        rename_in_layer(r"mlp\.fc1", "ffn.up", AT),
        rename_in_layer(r"mlp\.fc2", "ffn.down", AT),
    )
