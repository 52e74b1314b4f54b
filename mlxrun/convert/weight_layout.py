"""How weights are to be quantized: one layout for all, and others for single modules. Checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from ..core import RequestError
from ..ops.quantized import QuantizedWeight
from ..weights.quantized import BITS, GROUPS, USUAL, Layout

MODES = tuple(USUAL)
Choice = Callable[[str, tuple[int, ...]], Layout | None]  # (module, shape of its weight); None: as it is


WORDS = 6  # bits at least of embedding and head: measured, fewer of these cost more than fewer anywhere else


@dataclass(frozen=True, slots=True)
class Wanted:
    usual: Layout
    of: Choice
    words: Layout | None = None  # of embedding and head, where they differ from what `of` says
    keep: bool = False  # what is stored with as few bits already stays bit for bit


def everywhere(how: Layout) -> Wanted:
    """Every module the same."""
    return Wanted(how, lambda module, shape: how)


def sparing(how: Layout, *, keep: bool) -> Wanted:
    """The same but for what hurts most: embedding and head get more bits, and nothing is rounded a second time that
    has so few already."""
    finer = how.mode == "affine" and how.bits < WORDS
    words = replace(how, bits=WORDS) if finer else None
    return replace(everywhere(how), words=words, keep=keep)


def layout(bits: int | None, group: int | None, mode: str) -> Layout:
    """What flags say; what they leave out is usual for the mode."""
    if mode not in USUAL:
        raise RequestError(f"--mode must be one of {', '.join(MODES)}, not {mode!r}.")
    usual_bits, usual_group = USUAL[mode]
    bits, group = bits or usual_bits, group or usual_group
    if mode == "affine" and (bits not in BITS or group not in GROUPS):
        raise RequestError(
            f"affine weights have {'/'.join(map(str, BITS))} bits in groups of {'/'.join(map(str, GROUPS))}, "
            f"not {bits} in groups of {group}."
        )
    if mode != "affine" and (bits, group) != USUAL[mode]:
        raise RequestError(f"{mode} has {usual_bits} bits in groups of {usual_group}, not {bits} in groups of {group}.")
    return Layout(mode, bits, group)  # type: ignore[arg-type]  # a key of USUAL


def quantize(weight: mx.array, how: Layout) -> QuantizedWeight:
    """Lazy; scales are of the weight's own type."""
    packed, scales, *biases = mx.quantize(weight, group_size=how.group, bits=how.bits, mode=how.mode)
    return QuantizedWeight(packed, scales, biases[0] if biases else None, how.mode, how.bits, how.group)


def written(how: Layout) -> dict[str, Any]:
    """As config.json has it."""
    return {"group_size": how.group, "bits": how.bits, "mode": how.mode}


def of(weight: QuantizedWeight) -> Layout:
    return Layout(weight.mode, weight.bits, weight.group)
