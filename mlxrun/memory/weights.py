"""A model's bytes by part, and how many of them one token reads. Asks shapes and sizes only, never values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..spec import Attention, Decoder, DenseAndExperts, LatentAttention, MoE, SideBySide

EXPERTS = "experts"
EMBEDDING = "embedding"
VISION = "vision tower"
AUDIO = "listener"
ADAPTERS = "adapters"


class Tensor(Protocol):
    """An array or a quantized weight."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Weights:
    kinds: Mapping[str, int]  # bytes by part of the model, most first
    read: int  # bytes that one token's pass reads: no unchosen expert, of a table only its row
    matrices: int  # parameters that a quantizer would take
    others: int  # parameters that it leaves as they are
    largest: int  # bytes of the largest single array
    experts_read: int = 0  # of `read`, those of chosen experts
    experts_layer: int = 0  # bytes of all experts of the layer that has most

    @property
    def total(self) -> int:
        return sum(self.kinds.values())

    @property
    def bits(self) -> float:
        """A parameter, on average."""
        return 8 * self.total / max(1, self.matrices + self.others)


def weigh(decoder: Decoder, weights: Mapping[str, Tensor]) -> Weights:
    """`weights` by canonical name, as they will lie in memory."""
    kinds: dict[str, int] = {}
    read = experts_read = 0.0
    matrices = others = largest = 0
    layers: dict[str, int] = {}
    for name, weight in weights.items():
        part, count = part_of(decoder, name), math.prod(weight.shape)
        kinds[part] = kinds.get(part, 0) + weight.nbytes
        share = weight.nbytes * share_read(decoder, name, part)
        read += share
        if part == EXPERTS:
            experts_read += share
            layer = name.split(".")[1]
            layers[layer] = layers.get(layer, 0) + weight.nbytes
        if len(weight.shape) > 1 and name.endswith(".weight") and "conv" not in name.split("."):
            matrices += count
        else:
            others += count
        largest = max([largest, *(array.nbytes for array in getattr(weight, "parts", (weight,)))])
    most = max(layers.values(), default=0)
    kinds = dict(sorted(kinds.items(), key=lambda kind: -kind[1]))
    return Weights(kinds, round(read), matrices, others, largest, round(experts_read), most)


def share_read(decoder: Decoder, name: str, part: str) -> float:
    """How much of a weight one token reads."""
    if part in (VISION, AUDIO):
        return 0.0
    if part == EMBEDDING and name in ("embed.weight", "positions.weight", "token_types.weight"):
        return 1.0 if decoder.tied and name == "embed.weight" else 0.0
    if name == "per_layer.embed.weight":
        return 0.0
    if part == EXPERTS:
        ffn = decoder.layers[int(name.split(".")[1])].ffn
        moe = ffn.moe if isinstance(ffn, DenseAndExperts) else ffn
        return moe.router.top_k / moe.experts if isinstance(moe, MoE) else 1.0
    return 1.0


def part_of(decoder: Decoder, name: str) -> str:
    """By canonical name; docs/architecture.md lists them."""
    words = name.split(".")
    if words[0] == "vision":
        return VISION
    if words[0] == "audio":
        return AUDIO
    if words[0] != "layers":
        return {"head": "head", "rank": "head", "per_layer": "per-layer embedding"}.get(
            words[0], "norms" if "norm" in words[0] else EMBEDDING
        )
    part = words[2]
    if part == "cross":
        return "attention"
    if part == "mixer":
        mixer = decoder.layers[int(words[1])].mixer
        if isinstance(mixer, SideBySide):
            mixer = mixer.attention if words[3] == "attention" else mixer.mamba
        return "attention" if isinstance(mixer, Attention | LatentAttention) else "recurrent"
    if part == "ffn":
        return EXPERTS if EXPERTS in words else "shared experts" if "shared" in words else "feed-forward"
    return "per-layer embedding" if part == "per_layer" else "norms"
