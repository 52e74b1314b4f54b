"""GPT-2, StarCoder 1, GPT-J, GPT-NeoX (Pythia), OPT and BLOOM: LayerNorm with biases, one activation, no gate."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from ..spec import Dense, Layer, LearnedPositions, ModelError, Norm
from .common import (
    Recipe,
    Sizes,
    activation,
    attention,
    context_of,
    decoder,
    head_rules,
    layer_norm,
    pre_norm_layers,
    rename_in_layer,
    sizes_of,
    split_qkv,
    tied,
)
from .config import Config
from .rope import rope_from, rope_of
from .rules import Drop, Rename, Rule, Split, Transpose

Wiring = Literal["serial", "parallel"]
_H = r"^(?:transformer\.|model\.)?h\.(\d+)\."
_BUFFERS = Drop(r"\.(?:attn|attention)\.(?:masked_)?bias$")


def _plain(c: Config, s: Sizes, act: str, *, bias: bool = True) -> Dense:
    hidden = c.count("intermediate_size", 4 * s.dim, high=1 << 22)
    return Dense(hidden, activation(c, act), gated=False, bias=bias)


def gpt2(c: Config) -> Recipe:
    """Learned positions. Matrices are stored input first, except in the mlx dialect."""
    c.ignore("reorder_and_upcast_attn")  # a matter of rounding
    c.ignore(*(f"summary_{key}" for key in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")))
    s, norm, tied_head = sizes_of(c), layer_norm(c, key="layer_norm_epsilon"), tied(c, True)
    scale = s.head_dim**-0.5 if c.flag("scale_attn_weights", True) else 1.0
    shrinks = c.flag("scale_attn_by_inverse_layer_idx")
    mixers = [
        attention(c, s, rope=None, scale=scale / (i + 1) if shrinks else scale, qkv_bias=True, out_bias=True)
        for i in range(s.layers)
    ]
    layers = pre_norm_layers(norm, mixers, [_plain(c, s, "gelu_new")] * s.layers)
    context = context_of(c, 1024)
    whole = decoder(c, s, layers, norm, tied_head, context=context, positions=LearnedPositions(context))
    turned = tuple(
        Transpose(_H + rf"{name}\.weight$", rf"layers.\1.{name}.weight")
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    )
    at = r"^(?:(?:transformer|model)\.)?(?:h|layers)\.(\d+)\."
    rules = (
        _BUFFERS,
        *head_rules(tied_head),
        *(() if c.dialect == "mlx" else turned),
        Rename(r"^(?:transformer\.|model\.)?wte\.", "embed."),
        Rename(r"^(?:transformer\.|model\.)?wpe\.", "positions."),
        Rename(r"^(?:transformer\.|model\.)?ln_f\.", "norm."),
        Split(at + r"attn\.c_attn\.(weight|bias)$", tuple(rf"layers.\1.mixer.{x}.\2" for x in "qkv")),
        rename_in_layer(r"attn\.c_proj", "mixer.o", at),
        rename_in_layer(r"mlp\.c_fc", "ffn.up", at),
        rename_in_layer(r"mlp\.c_proj", "ffn.down", at),
        rename_in_layer("ln_1", "mixer_norm", at),
        rename_in_layer("ln_2", "ffn_norm", at),
    )
    return Recipe(whole, rules)


def gpt_bigcode(c: Config) -> Recipe:
    """GPT-2 whose heads share one key and one value, or are fused head by head; matrices are stored output first."""
    c.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "runner_max_sequence_length")
    c.ignore(
        "inference_runner", "pre_allocate_kv_cache", "pad_key_length", "validate_runner_input", "max_sequence_length"
    )
    c.ignore(*(f"summary_{key}" for key in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")))
    s, norm, tied_head = sizes_of(c), layer_norm(c, key="layer_norm_epsilon"), tied(c, True)
    shared = c.flag("multi_query", True)
    s = replace(s, kv_heads=1 if shared else s.heads)
    scale = s.head_dim**-0.5 if c.flag("scale_attn_weights", True) else 1.0
    mixer = attention(c, s, rope=None, scale=scale, qkv_bias=True, out_bias=True)
    layers = pre_norm_layers(norm, [mixer] * s.layers, [_plain(c, s, "gelu_pytorch_tanh")] * s.layers)
    context = context_of(c, 1024)
    whole = decoder(c, s, layers, norm, tied_head, context=context, positions=LearnedPositions(context))
    names = tuple(rf"layers.\1.mixer.{x}.\2" for x in "qkv")
    by_head = Split(_H + r"attn\.c_attn\.(weight|bias)$", names, (s.head_dim,) * 3, groups=s.heads)
    rules = (
        _BUFFERS,
        *head_rules(tied_head),
        Rename(r"^(?:transformer\.|model\.)?wte\.", "embed."),
        Rename(r"^(?:transformer\.|model\.)?wpe\.", "positions."),
        Rename(r"^(?:transformer\.|model\.)?ln_f\.", "norm."),
        split_qkv(s, r"attn\.c_attn", _H) if shared else by_head,
        rename_in_layer(r"attn\.c_proj", "mixer.o", _H),
        rename_in_layer(r"mlp\.c_fc", "ffn.up", _H),
        rename_in_layer(r"mlp\.c_proj", "ffn.down", _H),
        rename_in_layer("ln_1", "mixer_norm", _H),
        rename_in_layer("ln_2", "ffn_norm", _H),
    )
    return Recipe(whole, rules)


def gptj(c: Config) -> Recipe:
    """Attention and feed-forward side by side on one norm; the first values of a head turn in interleaved pairs."""
    c.ignore("rotary", "scale_attn_weights")  # written true; the reference reads neither
    c.ignore(*(f"summary_{key}" for key in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")))
    s, norm, tied_head = sizes_of(c), layer_norm(c, key="layer_norm_epsilon"), tied(c)
    rotary = c.count("rotary_dim", 64, high=s.head_dim)
    mixer = attention(c, s, rope=rope_from(c, {"rope_theta": 10000.0}, rotary, interleaved=True))
    layer = Layer(mixer, _plain(c, s, "gelu_new"), mixer_norm=norm, wiring="parallel")
    rules = (
        _BUFFERS,
        *head_rules(tied_head, r"(?:model\.)?lm_head"),
        Rename(r"^(?:transformer\.|model\.)?wte\.", "embed."),
        Rename(r"^(?:transformer\.|model\.)?ln_f\.", "norm."),
        rename_in_layer(r"attn\.([qkv])_proj", r"mixer.\2", _H),
        rename_in_layer(r"attn\.out_proj", "mixer.o", _H),
        rename_in_layer(r"mlp\.fc_in", "ffn.up", _H),
        rename_in_layer(r"mlp\.fc_out", "ffn.down", _H),
        rename_in_layer("ln_1", "mixer_norm", _H),
    )
    whole = decoder(c, s, [layer] * s.layers, norm, tied_head, context=context_of(c, 2048), head_bias=True)
    return Recipe(whole, rules)


def gpt_neox(c: Config) -> Recipe:
    """Side by side with a norm each, or one after the other; q, k and v are fused head by head."""
    s, norm, tied_head, bias = sizes_of(c), layer_norm(c), tied(c), c.flag("attention_bias", True)
    mixer = attention(c, s, rope=rope_of(c, s.head_dim, partial=0.25), qkv_bias=bias, out_bias=bias)
    wiring: Wiring = "parallel" if c.flag("use_parallel_residual", True) else "serial"
    layer = Layer(mixer, _plain(c, s, "gelu"), mixer_norm=norm, ffn_norm=norm, wiring=wiring)
    top, at = r"^(?:gpt_neox\.|model\.)?", r"^(?:gpt_neox\.|model\.)?(?:layers|h)\.(\d+)\."
    rules = (
        _BUFFERS,
        Drop(r"rotary_emb\.inv_freq$"),
        *head_rules(tied_head, r"(?:(?:model\.)?embed_out|lm_head)"),
        Rename(top + r"embed_in\.", "embed."),
        Rename(top + r"final_layer_norm\.", "norm."),
        rename_in_layer("input_layernorm", "mixer_norm", at),
        rename_in_layer("post_attention_layernorm", "ffn_norm", at),
        *_fused_by_head(s, at, "attention"),
    )
    return Recipe(decoder(c, s, [layer] * s.layers, norm, tied_head), rules)


def _fused_by_head(s: Sizes, at: str, block: str) -> tuple[Rule, ...]:
    names = tuple(rf"layers.\1.mixer.{x}.\2" for x in "qkv")
    return (
        Split(at + block + r"\.query_key_value\.(weight|bias)$", names, (s.head_dim,) * 3, groups=s.heads),
        rename_in_layer(block + r"\.dense", "mixer.o", at),
        rename_in_layer(r"mlp\.dense_h_to_4h", "ffn.up", at),
        rename_in_layer(r"mlp\.dense_4h_to_h", "ffn.down", at),
    )


def opt(c: Config) -> Recipe:
    """Learned positions from row 2 on. The 350m norms after adding and has a narrower embedding."""
    c.ignore("dropout", "activation_dropout", "layerdrop", "init_std")
    s, tied_head, bias = sizes_of(c), tied(c, True), c.flag("enable_bias", True)
    affine = c.flag("layer_norm_elementwise_affine", True)
    norm = Norm(1e-5, "layer", weight=affine, bias=affine)
    before = c.flag("do_layer_norm_before", True)
    mixer = attention(c, s, rope=None, qkv_bias=bias, out_bias=bias)
    dense = _plain(c, s, "relu", bias=bias)
    layer = Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm, wiring="serial" if before else "post")
    width = c.count("word_embed_proj_dim", s.dim, high=1 << 20)
    context = context_of(c, 2048)
    whole = decoder(
        c,
        s,
        [layer] * s.layers,
        norm if before and not c.flag("_remove_final_layer_norm") else None,
        tied_head,
        context=context,
        positions=LearnedPositions(context, offset=2),
        embed_dim=None if width == s.dim else width,
    )
    top, at = r"^(?:model\.)?decoder\.", r"^(?:model\.)?decoder\.layers\.(\d+)\."
    rules = (
        *head_rules(tied_head),
        Rename(top + r"embed_tokens\.", "embed."),
        Rename(top + r"embed_positions\.", "positions."),
        Rename(top + r"project_in\.", "embed_in."),
        Rename(top + r"project_out\.", "embed_out."),
        Rename(top + r"final_layer_norm\.", "norm."),
        rename_in_layer(r"self_attn\.([qkv])_proj", r"mixer.\2", at),
        rename_in_layer(r"self_attn\.out_proj", "mixer.o", at),
        rename_in_layer("self_attn_layer_norm", "mixer_norm", at),
        rename_in_layer("final_layer_norm", "ffn_norm", at),
        rename_in_layer("fc1", "ffn.up", at),
        rename_in_layer("fc2", "ffn.down", at),
    )
    return Recipe(whole, rules)


def bloom(c: Config) -> Recipe:
    """Positions are a slope a head (ALiBi); the embedding is normed; q, k and v are fused head by head."""
    if c.flag("apply_residual_connection_post_layernorm"):
        raise ModelError(f"{c.file}: apply_residual_connection_post_layernorm is not supported.")
    c.ignore("slow_but_exact", "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion")
    c.ignore("offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id", "n_inner")
    s, norm, tied_head = sizes_of(c), layer_norm(c, key="layer_norm_epsilon"), tied(c, True)
    mixer = attention(c, s, rope=None, slopes=alibi_slopes(s.heads), qkv_bias=True, out_bias=True)
    dense = Dense(4 * s.dim, "gelu_tanh", gated=False, bias=True)
    layers = pre_norm_layers(norm, [mixer] * s.layers, [dense] * s.layers)
    top = r"^(?:transformer\.)?"
    rules = (
        *head_rules(tied_head),
        Rename(top + r"word_embeddings\.", "embed."),
        Rename(top + r"word_embeddings_layernorm\.", "embed_norm."),
        Rename(top + r"ln_f\.", "norm."),
        rename_in_layer("input_layernorm", "mixer_norm", _H),
        rename_in_layer("post_attention_layernorm", "ffn_norm", _H),
        *_fused_by_head(s, _H, "self_attention"),
    )
    return Recipe(decoder(c, s, layers, norm, tied_head, context=context_of(c, 2048), embed_norm=norm), rules)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """A geometric series for a power of two; other counts continue with every second one of the next series."""
    power = 2 ** int(math.log2(heads))

    def series(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (i + 1) / count) for i in range(count)]

    return tuple(series(power) + series(2 * power)[0::2][: heads - power])
