"""Where a model's bytes are: by part of the model, and by how they are stored. Reads headers, no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..memory.weights import EXPERTS, part_of
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import Decoder, DenseAndExperts, MoE


@dataclass
class Size:
    parameters: int = 0
    bytes: int = 0

    def add(self, weight: Weight) -> None:
        self.parameters += math.prod(weight.shape)
        self.bytes += weight.nbytes


def by_part(decoder: Decoder, weights: Mapping[str, Weight]) -> dict[str, Size]:
    return grouped({name: part_of(decoder, name) for name in weights}, weights)


def by_format(weights: Mapping[str, Weight]) -> dict[str, Size]:
    return grouped({name: format_of(weight) for name, weight in weights.items()}, weights)


def grouped(group: Mapping[str, str], weights: Mapping[str, Weight]) -> dict[str, Size]:
    """Largest first."""
    sizes: dict[str, Size] = {}
    for name, weight in weights.items():
        sizes.setdefault(group[name], Size()).add(weight)
    return dict(sorted(sizes.items(), key=lambda item: -item[1].bytes))


def format_of(weight: Weight) -> str:
    if isinstance(weight, QuantizedWeight):
        mode = "" if weight.mode == "affine" else f"{weight.mode}, "
        return f"{mode}{weight.bits} bits in groups of {weight.group}"
    return str(weight.dtype).removeprefix("mlx.core.")


def active_parameters(decoder: Decoder, parts: Mapping[str, Size]) -> int:
    """Parameters that one token meets: of the experts, only those chosen."""
    total = sum(size.parameters for size in parts.values())
    chosen = [
        (ffn.router.top_k / ffn.experts)
        for layer in decoder.layers
        if (ffn := layer.ffn.moe if isinstance(layer.ffn, DenseAndExperts) else layer.ffn) and isinstance(ffn, MoE)
    ]
    if EXPERTS not in parts or not chosen:
        return total
    return total - round(parts[EXPERTS].parameters * (1 - sum(chosen) / len(chosen)))
