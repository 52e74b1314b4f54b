"""Hunyuan: Llama whose query and key heads are normed after they turn; large ones have experts and a shared network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..spec import FeedForward, ModelError, Router
from .common import Recipe, gated, layers_of, rename_in_layer, rms, sizes_of, with_ffn
from .config import Config
from .llama import Silent, llama_like
from .moe import experts_of, moe, refuse, router_rules
from .rope import rope_from, rope_parameters, scaling_of

# of a tower of pictures, of training, and what is said again
_IDLE = """
    anyres_pooling_size attention_head_dim capacity_factor cla_share_factor dense_list moe_drop_tokens norm_topk_prob
    norm_type num_media_embeds org_vocab_size pool_type use_qk_norm
"""


def hunyuan_v1_dense(c: Config) -> Recipe:
    """A `dynamic` rope with alpha has its base stretched once and for all, and uses none of the keys beside it."""
    for key in ("use_cla", "use_mla"):
        refuse(c, key, False)
    c.ignore(*_IDLE.split())
    c.ignore(*(key for key in c.data if key.endswith("_id")))  # tokens with a part in training
    s, p, bias = sizes_of(c), rope_parameters(c), c.flag("attention_bias")
    if scaling_of(p) == "dynamic" and p.get("alpha") is not None:
        alpha = Config(p, file=c.file).number("alpha", above=0)
        p = {"rope_theta": p["rope_theta"] * alpha ** (s.head_dim / (s.head_dim - 2))}
    whole = llama_like(
        c,
        ("full_attention",) * s.layers,
        Silent(eps=1e-5),
        rope=rope_from(c, p, s.head_dim),
        qk_norm=rms(c, 1e-5),
        qk_norm_after_rope=True,
        qkv_bias=bias,
        out_bias=bias,
    )
    norms = rename_in_layer(r"self_attn\.(q|k)(?:uery|ey)_layernorm", r"mixer.\2_norm")
    return replace(whole, rules=(norms, *whole.rules))


def hunyuan_v1_moe(c: Config) -> Recipe:
    """Sizes may be told layer by layer. The weights of the chosen experts sum to one."""
    for key, always in {"use_mixed_mlp_moe": True, "moe_layer_num_skipped": 0, "routed_scaling_factor": 1.0}.items():
        refuse(c, key, always)
    for key in ("group_limited_greedy", "moe_random_routing_dropped_token"):
        refuse(c, key, False)
    layers, width = layers_of(c), c.count("intermediate_size", high=1 << 22)
    numbers = [
        _each(c, key, default, layers)
        for key, default in {
            "num_experts": 1,
            "moe_topk": 1,
            "moe_intermediate_size": width,
            "num_shared_expert": 1,
        }.items()
    ]
    ffns = [_experts(c, *told) for told in zip(*numbers, strict=True)]
    rules = (
        *router_rules(name=r"gate\.wg"),
        rename_in_layer(r"mlp\.shared_mlp\.(gate|up|down)_proj", r"ffn.shared.\2"),
        *experts_of(c),
    )
    whole = with_ffn(hunyuan_v1_dense(c), ffns)
    return replace(whole, rules=(*rules, *whole.rules))


def _each(c: Config, key: str, default: int, layers: int) -> Sequence[Any]:
    told = c.get(key, default)
    if isinstance(told, list) and len(told) != layers:
        raise ModelError(f"{c.file}: {key} must be a number, or list one for each of the {layers} layers.")
    return told if isinstance(told, list) else [told] * layers


def _experts(c: Config, experts: int, chosen: int, hidden: int, shared: int) -> FeedForward:
    """Of one layer."""
    own = Config({**c.data, "num_experts": experts, "moe_intermediate_size": hidden, "shared": shared}, file=c.file)
    top_k = Config({"moe_topk": chosen}, file=c.file).count("moe_topk", high=1 << 16)
    dense = gated(c)
    beside = replace(dense, hidden=dense.hidden * own.count("shared", high=1 << 10))
    return moe(own, Router(top_k, renorm=True), shared=beside)
