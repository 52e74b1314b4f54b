"""Apertus: Llama with norms on query and key heads, and a plain network whose activation learns."""

from __future__ import annotations

from dataclasses import replace

from ..spec import XieluDense
from .common import LAYER, Recipe, layers_of, rename_in_layer, rms, with_ffn
from .config import Config
from .llama import Silent, llama_like
from .moe import WIDEST, refuse
from .rules import Flatten

_SILENT = {  # the rope where nothing is said of it
    "rope_type": "llama3",
    "rope_theta": 12e6,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


def apertus(c: Config) -> Recipe:
    for key, always in {"hidden_act": "xielu", "qk_norm": True, "post_norm": False, "mlp_bias": False}.items():
        refuse(c, key, always)
    if c.dialect != "gguf" and not (c.get("rope_parameters") or c.get("rope_scaling")):
        c = Config({**c.data, "rope_parameters": _SILENT}, c.dialect, c.waive, c.file, c.seen)
    bias, layers = c.flag("attention_bias"), layers_of(c)
    dense = XieluDense(c.count("intermediate_size", high=WIDEST))
    silent, kinds = Silent(base=12e6, eps=1e-5), ("full_attention",) * layers
    whole = llama_like(c, kinds, silent, ffn=dense, qk_norm=rms(c, 1e-5), qkv_bias=bias, out_bias=bias)
    if c.dialect == "gguf":  # its files hold no tensors of one value
        whole = with_ffn(whole, [replace(dense, learned=learned) for learned in c["xielu"]])
    rules = (
        Flatten(LAYER + r"mlp\.act_fn\.(alpha_p|alpha_n|beta|eps)$", r"layers.\1.ffn.xielu.\2"),
        rename_in_layer("attention_layernorm", "mixer_norm"),
        rename_in_layer("feedforward_layernorm", "ffn_norm"),
    )
    return replace(whole, rules=(*rules, *whole.rules))
