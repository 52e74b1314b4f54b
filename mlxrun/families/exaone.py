"""EXAONE 3: Llama under other names. K-EXAONE: EXAONE 4's attention in pre-norm layers, DeepSeek's router."""

from __future__ import annotations

from dataclasses import replace

from .common import LAYER, Recipe, layers_of, rename_in_layer
from .config import Config
from .glm_moe import routed
from .llama import Silent, llama_like
from .moe import refuse, sparse_kinds
from .olmo import exaone_mixers
from .rules import Drop, Rename


def exaone(c: Config) -> Recipe:
    """Newer files have Llama's names, and its keys."""
    bias, eps = c.flag("attention_bias"), "layer_norm_epsilon" if "num_layers" in c.data else "rms_norm_eps"
    silent, kinds = Silent(base=500_000.0, eps=1e-5, eps_key=eps), ("full_attention",) * layers_of(c)
    whole = llama_like(c, kinds, silent, qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"))
    layer = r"^transformer\.h\.(\d+)\."
    rules = (
        Rename(r"^transformer\.wte\.", "embed."),
        Rename(r"^transformer\.ln_f\.", "norm."),
        rename_in_layer("ln_1", "mixer_norm", layer),
        rename_in_layer("ln_2", "ffn_norm", layer),
        rename_in_layer(r"attn\.attention\.([qkv])_proj", r"mixer.\2", layer),
        rename_in_layer(r"attn\.attention\.out_proj", "mixer.o", layer),
        rename_in_layer(r"mlp\.c_fc_0", "ffn.gate", layer),
        rename_in_layer(r"mlp\.c_fc_1", "ffn.up", layer),
        rename_in_layer(r"mlp\.c_proj", "ffn.down", layer),
        Drop(r"rotary\.inv_freq$"),
    )
    return replace(whole, rules=(*rules, *whole.rules))


def exaone_moe(c: Config) -> Recipe:
    refuse(c, "scoring_func", "sigmoid")
    refuse(c, "topk_method", "noaux_tc")
    refuse(c, "is_moe_layer", list(sparse_kinds(c, layers_of(c), 1)))  # the same said again, in early files
    whole = routed(c, exaone_mixers(c), first=1, shared="num_shared_experts")
    rules = (
        Drop(r"^mtp\.", "multi-token prediction"),
        Rename(LAYER + r"mlp\.e_score_correction_bias$", r"layers.\1.ffn.select_bias"),
    )
    return replace(whole, rules=(*rules, *whole.rules))
