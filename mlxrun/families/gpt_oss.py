"""GPT-OSS: attention with sinks, every second layer in a window; experts with biases and a clamped unit.

Gate and up rows of the experts alternate. They come as bfloat16, inputs first, or as MXFP4 blocks, rows
first; the reader of MXFP4 joins blocks and scales under the name of the blocks.
"""

from __future__ import annotations

from ..spec import Router
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    attention,
    decoder,
    head_rules,
    layer_types,
    pre_norm_layers,
    rename_in_layer,
    rms,
    sizes_of,
    tied,
    window_of,
)
from .config import Config
from .moe import moe, refuse, router_rules, top_k
from .rope import rope_of
from .rules import Rename, Rule, Transpose, Unzip

_SLIDE, _FULL = "sliding_attention", "full_attention"


def gpt_oss(c: Config) -> Recipe:
    refuse(c, "swiglu_alpha", 1.702)  # what the clamped unit is made of
    refuse(c, "swiglu_limit", 7.0)
    refuse(c, "hidden_act", "silu")
    c.ignore("initial_context_length")  # said again inside the rope's keys
    s, norm, tied_head, bias = sizes_of(c), rms(c, 1e-5), tied(c), c.flag("attention_bias", True)
    kinds = layer_types(c, s.layers, lambda i: _FULL if i % 2 else _SLIDE)
    mixers = {
        kind: attention(
            c,
            s,
            rope=rope_of(c, s.head_dim, base=150_000.0),
            window=window_of(c, kind),
            qkv_bias=bias,
            out_bias=bias,
            sinks=True,
        )
        for kind in sorted(set(kinds))
    }
    router = Router(top_k(c), "softmax_topk", bias=True)
    experts = moe(c, router, "intermediate_size", act="clamped_swiglu", bias=True)
    layers = pre_norm_layers(norm, [mixers[kind] for kind in kinds], [experts] * s.layers)
    rules = (
        Rename(LAYER + r"self_attn\.sinks$", r"layers.\1.mixer.sinks"),
        *router_rules(name="router"),
        *_expert_rules(c),
        *head_rules(tied_head),
        *NAMES,
        *PRE,
    )
    return Recipe(decoder(c, s, layers, norm, tied_head), rules)


def _expert_rules(c: Config) -> tuple[Rule, ...]:
    block, ours = LAYER + r"mlp\.experts\.", r"layers.\1.ffn.experts."
    if c.dialect == "mlx":
        return (rename_in_layer(r"mlp\.experts\.(gate|up|down)_proj", r"ffn.experts.\2"),)
    made = r"^layers\.(\d+)\.ffn\.experts\.gate_up\."
    return (
        Transpose(block + r"gate_up_proj$", ours + "gate_up.weight"),
        Rename(block + r"gate_up_proj_blocks$", ours + "gate_up.weight"),
        Unzip(made + "weight$", (ours + "gate.weight", ours + "up.weight"), axis=-2),
        Unzip(block + r"gate_up_proj_bias$", (ours + "gate.bias", ours + "up.bias"), axis=-1),
        Transpose(block + r"down_proj$", ours + "down.weight"),
        Rename(block + r"down_proj_blocks$", ours + "down.weight"),
        Rename(block + r"down_proj_bias$", ours + "down.bias"),
    )
