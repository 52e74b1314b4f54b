"""K-EXAONE: EXAONE 4's attention in pre-norm layers, DeepSeek's router."""

from __future__ import annotations

from dataclasses import replace

from .common import LAYER, Recipe, layers_of
from .config import Config
from .glm_moe import routed
from .moe import refuse, sparse_kinds
from .olmo import exaone_mixers
from .rules import Drop, Rename


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
