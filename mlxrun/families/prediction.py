"""Heads that guess further tokens (multi-token prediction): their weights named as a model of one layer.

A checkpoint has them as a layer after the last, with an entrance and an exit of its own. The model itself leaves them
out; who wants their guesses loads them beside it, by the recipe that is made here.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec import Attention, Joined, LatentAttention, Norm
from .common import Recipe
from .rules import Drop, Rename, Rule

WHY = "the model itself, which is loaded apart"
ENTRANCE = "eh_proj"
PARTS = {
    "embed_tokens": "embed",
    "enorm": "join.embed_norm",
    "hnorm": "join.hidden_norm",
    ENTRANCE: "join.proj",
    r"shared_head\.norm": "norm",
    r"shared_head\.head": "head",
}


def layer_after_last(whole: Recipe, norm: Norm) -> Recipe | None:
    """DeepSeek V3's way, which GLM shares: the first layer after the last is one like it, and has all that it needs.

    None: the last layer borrows from others, so a copy of it cannot stand alone.
    """
    s, number = whole.decoder, len(whole.decoder.layers)
    last = s.layers[-1]
    borrows = isinstance(last.mixer, Attention | LatentAttention) and last.mixer.borrows is not None
    if borrows or (isinstance(last.mixer, LatentAttention) and last.mixer.indexer is not None):
        return None
    at = rf"^(?:model\.)?layers\.{number}\."
    rules: tuple[Rule, ...] = (
        Drop(rf"^(?:model\.)?layers\.(?!{number}\.)\d+\.", WHY),
        Drop(r"^(?:model\.)?(?:embed_tokens|norm)\.", WHY),
        Drop(r"^(?:model\.)?lm_head\.", WHY),
        *(Rename(at + theirs + r"\.", f"{ours}.") for theirs, ours in PARTS.items()),
        Rename(at, "model.layers.0."),
    )
    decoder = replace(s, layers=(last,), norm=norm, tied=False, joined=Joined(norm, norm))
    return replace(whole, decoder=decoder, rules=(*rules, *whole.rules), further=None)
