"""What readers of other people's quantized layouts share: tensors by module, checked, and what they are put into.

A reader is handed every tensor of a checkpoint and its `quantization_config`, and gives back the tensors with each
quantized module's parts made one weight. Where MLX has no layout for what they say, the weight is the nearest there
is, and `Found.lossy` holds the values that it should have had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError, shown
from .repack import affine, refit

WIDEST = 128  # the largest group of MLX
GROUPS = (32, 64, 128)
REFIT_BITS = 8
# scales of activations and of cached keys and values: nothing here is computed in eight bits
QUIET = re.compile(r"\.(?:input_scale|input_global_scale|output_scale|activation_scale|[qkv]_scale|kv_scale)$")


@dataclass(slots=True)
class ForeignWeights:
    weights: dict[str, Weight] = field(default_factory=dict)
    lossy: dict[str, mx.array] = field(default_factory=dict)

    def refit_values(self, name: str, values: mx.array) -> None:
        """The nearest eight-bit weight."""
        self.weights[name], self.lossy[name] = refit(values, REFIT_BITS), values


class Module:
    """The tensors of one module. What is asked for and not as it must be is named in an error."""

    def __init__(self, name: str, tensors: Mapping[str, Weight]) -> None:
        self.name, self._tensors = name, tensors

    def __str__(self) -> str:
        return f"The module {shown(self.name)}"

    def fail(self, what: str) -> ModelError:
        return ModelError(f"{self} {what}.")

    def has(self, part: str) -> bool:
        return f"{self.name}.{part}" in self._tensors

    def take(self, part: str, *dtypes: mx.Dtype, axes: int | None = None) -> mx.array:
        found = self._tensors.get(f"{self.name}.{part}")
        if not isinstance(found, mx.array):
            raise self.fail(f"has no {part} beside its other parts")
        if dtypes and found.dtype not in dtypes:
            kinds = " or ".join(kind(dtype) for dtype in dtypes)
            raise self.fail(f"has {part} of type {kind(found.dtype)}; it must be {kinds}")
        if axes is not None and found.ndim != axes:
            raise self.fail(f"has {part} of shape {found.shape}; it must have {axes} axes")
        return found


def kind(dtype: mx.Dtype) -> str:
    return str(dtype).removeprefix("mlx.core.")


def modules(tensors: Mapping[str, Weight], part: str) -> Iterator[Module]:
    """Those that have such a part."""
    suffix = "." + part
    for name in tensors:
        if name.endswith(suffix):
            yield Module(name.removesuffix(suffix), tensors)


def others(tensors: Mapping[str, Weight], parts: tuple[str, ...], made: Mapping[str, Weight]) -> dict[str, Weight]:
    """Tensors that are no part of a weight that was made, without what only quantized activations need."""
    used = {f"{name.removesuffix('.weight')}.{part}" for name in made for part in parts} | made.keys()
    return {name: t for name, t in tensors.items() if name not in used and not QUIET.search(name)}


def group_of(module: Module, width: int, groups: int) -> int:
    """Inputs that share a scale, as MLX can have them: those of the file, or a part of them."""
    if groups < 1 or width % groups:
        raise module.fail(f"has {groups} groups in rows of {width}, which do not divide evenly")
    size = width // groups
    for group in reversed(GROUPS):
        if size % group == 0:
            return group
    raise module.fail(f"has groups of {size} inputs; multiples of 32 are read")


def by_group(module: Module, width: int, *parts: mx.array) -> list[mx.array]:
    """(out, groups of the file) -> (out, groups of MLX)."""
    group = group_of(module, width, parts[0].shape[-1])
    times = width // parts[0].shape[-1] // group
    return [mx.repeat(part, times, axis=-1) if times > 1 else part for part in parts]


def shift_codes(module: Module, codes: mx.array, scales: mx.array, zeros: mx.array | int, bits: int) -> QuantizedWeight:
    """scale * (code - zero): codes (out, in) uint8, scales (out, groups), zeros as scales or one for all.

    A zero that is a power of two leaves the product as exact as the scale; for others both are float32.
    """
    if isinstance(zeros, int):
        (scales,) = by_group(module, codes.shape[-1], scales)
        return affine(codes, scales, scales * -zeros, bits)
    wide, zeros = by_group(module, codes.shape[-1], scales.astype(mx.float32), zeros)
    return affine(codes, wide, -wide * zeros.astype(mx.float32), bits)


def unpack_codes(words: mx.array, bits: int) -> mx.array:
    """(..., n) int32 or uint32 -> (..., n * 32 / bits) uint8; a stream of codes along the last axis, low bits first."""
    *rows, width = words.shape
    if bits in (2, 4, 8):
        shifts = mx.arange(0, 32, bits).astype(mx.uint32)
        codes = (words.view(mx.uint32)[..., None] >> shifts) & (2**bits - 1)
    else:  # 32 codes lie in `bits` words: from each byte that a code begins in, two bytes hold all of it
        stream = words.view(mx.uint8).reshape(*rows, width * 4 // bits, bits)
        starts = mx.arange(0, 8 * bits, bits)
        pairs = mx.concatenate([stream, mx.zeros_like(stream[..., :1])], axis=-1).astype(mx.uint32)
        first = starts // 8
        codes = (((pairs[..., first + 1] << 8) | pairs[..., first]) >> (starts % 8).astype(mx.uint32)) & (2**bits - 1)
    return codes.astype(mx.uint8).reshape(*rows, width * 32 // bits)


def number(written: Mapping[str, Any], key: str, allowed: tuple[int, ...], file: str) -> int:
    value = written.get(key)
    if isinstance(value, bool) or value not in allowed:
        raise ModelError(
            f"{file}: {key} of quantization_config is {shown(value)}; known are {', '.join(map(str, allowed))}."
        )
    return int(value)
