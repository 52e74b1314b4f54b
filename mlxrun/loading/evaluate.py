"""Weights that are there before anybody is told that the model is ready: computed one after the other, and where they
are pages of a file, every page brought into memory.

Otherwise the first answer would read, widen and cast all of them in one graph, which takes as much memory again, and
nobody would see how far it is. `progress` hears of bytes and may end it. Knows no device and no plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import mlx.core as mx

from ..memory.headroom import give_back
from ..ops.quantized import QuantizedWeight, Weight
from ..weights.adopted import address_of
from ..weights.mapped import Mapped
from ..weights.pages import bring_in
from .options import Progress

FREED = 256 << 20  # bytes that are computed until what they were made from goes back to the system


def evaluate_weights(weights: Mapping[str, Weight], files: Sequence[Mapped], progress: Progress) -> Counter[int]:
    """Which of the files, by their place, how many bytes of weights are still pages of."""
    total = sum(weight.nbytes for weight in weights.values())
    held: Counter[int] = Counter()
    done = computed = 0
    for name in in_order(weights):
        weight = weights[name]
        for part in weight.parts if isinstance(weight, QuantizedWeight) else (weight,):
            mx.eval(part)
            place = file_of(part, files)
            if place is None:
                computed += part.nbytes
            else:
                held[place] += part.nbytes
                for size in bring_in(address_of(part), part.nbytes):
                    progress(min(done + size, total), total)
            done += part.nbytes
            progress(min(done, total), total)
            if computed >= FREED:
                give_back()
                computed = 0
    give_back()
    return held


def in_order(names: Mapping[str, Weight]) -> list[str]:
    """As a pass meets them, layer by layer."""

    def key(name: str) -> tuple[int, int]:
        words = name.split(".")
        if words[0] == "layers":
            return 1, int(words[1])
        return (2 if words[0] in ("norm", "embed_out", "head") else 0), 0

    return sorted(names, key=key)


def file_of(array: mx.array, files: Sequence[Mapped]) -> int | None:
    """By where it lies in memory; None: in none of them."""
    if not array.size:
        return None
    address = address_of(array)
    for place, file in enumerate(files):
        if any(start <= address < start + length for start, length in file.memory):
            return place
    return None
