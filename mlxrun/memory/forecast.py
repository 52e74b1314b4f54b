"""How fast one sequence will be written: a forecast with a band, never a measurement.

A token takes the time to read what it must read (weights that take part, keys in sight) and a fixed time for every
layer, because a layer's kernels wait for each other. The three numbers are fitted to what mlx-lm publishes for two
models in twelve precisions on one M4 Max (BENCHMARKS.md, 0.28.2), where they are within 3%. Numbers that others
publish for other chips, models and engines lie within the band. Not known: speculation, batches, thermals, a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import Decoder, DenseAndExperts, MoE
from .machine import Machine
from .sequence import read_bytes
from .weights import Weights

REACHED = 1 / 1.1  # of the bandwidth that the maker names
LAYER = 63e-6  # seconds
EXPERTS = 44e-6  # more, for a layer with experts
BAND = 0.2


@dataclass(frozen=True, slots=True)
class Forecast:
    """Tokens a second."""

    low: float
    likely: float
    high: float
    context: int  # at this length


def decode_speed(
    machine: Machine, decoder: Decoder, weights: Weights, context: int, width: int, keys: int | None = None
) -> Forecast | None:
    """None: the machine's bandwidth is not known, or there is nothing to write."""
    if machine.bandwidth is None or not machine.gpu or decoder.kind != "decoder":
        return None
    read = weights.read + read_bytes(decoder, context, width, keys)
    mixtures = sum(isinstance(layer.ffn, MoE | DenseAndExperts) for layer in decoder.layers)
    seconds = read / (machine.bandwidth * REACHED) + len(decoder.layers) * LAYER + mixtures * EXPERTS
    return Forecast((1 - BAND) / seconds, 1 / seconds, (1 + BAND) / seconds, context)
