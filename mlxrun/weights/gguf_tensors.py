"""The tensors of a GGUF file as weights, without loss.

F32, F16 and BF16 are arrays as they are. A block of Q4_0, Q4_1 or Q8_0 holds 32 values of one row: half
floats, then the codes. All three are affine with groups of 32: value = scale * code + bias.
  Q4_0  d, 16 bytes     d * (code - 8)      bias = -8 d
  Q4_1  d, m, 16 bytes  d * code + m
  Q8_0  d, 32 int8      d * int8            code = int8 + 128, bias = -128 d
A byte of 4-bit codes holds value j low and value j + 16 high; MLX wants neighbours.
A power of two times a half float is exact until it overflows; a tensor where one would has float32 scales.

MLX has no lazy array over a place in such a file, so the bytes are copied once when the tensors are asked
for; taking the blocks apart is lazy.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from .files import shown, unreadable
from .gguf import BLOCKS, Place

GROUP = 32
MAX_FLOATS = 4096  # of a tensor that is read at once
BLOCK_BYTES = {label: nbytes for label, values, nbytes in BLOCKS.values() if values == GROUP}
PLAIN = {"F32": ("<f4", mx.float32), "F16": ("<f2", mx.float16), "BF16": ("<u2", mx.bfloat16)}
OFFSET = {"Q4_0": 8, "Q8_0": 128}  # bias = -OFFSET * scale
HALF_INFINITY = 0x7C00
HALF_EXPONENT = 0x0400  # one step of the exponent: a factor of two


def load_tensors(path: Path, places: Mapping[str, Place]) -> dict[str, Weight]:
    try:
        with path.open("rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # goes with the last NumPy view of it
        return {name: _load(view, name, place, path.name) for name, place in places.items()}
    except OSError as error:
        raise unreadable(path, error) from error


def _load(view: mmap.mmap, name: str, place: Place, where: str) -> Weight:
    if place.kind in PLAIN:
        stored, dtype = PLAIN[place.kind]
        values = np.frombuffer(view, stored, place.nbytes // np.dtype(stored).itemsize, place.start)
        return mx.array(values.reshape(place.shape)).view(dtype)
    blocks = np.frombuffer(view, np.uint8, place.nbytes, place.start)
    shape = (*place.shape[:-1], place.shape[-1] // GROUP, BLOCK_BYTES[place.kind])
    wide = place.kind in OFFSET and _overflows(blocks, name, place.kind, where)
    return _WEIGHTS[place.kind](mx.array(blocks.reshape(shape)), wide)


def read_floats(path: Path, name: str, place: Place) -> tuple[float, ...]:
    """The values of a small F32 tensor, now."""
    if place.kind != "F32" or place.nbytes > MAX_FLOATS * 4:
        raise ModelError(f"{path.name}: the tensor {shown(name)} must be F32 and have at most {MAX_FLOATS} values.")
    try:
        with path.open("rb") as file:
            file.seek(place.start)
            raw = file.read(place.nbytes)
    except OSError as error:
        raise unreadable(path, error) from error
    return tuple(np.frombuffer(raw, "<f4").tolist())


def _overflows(blocks: np.ndarray, name: str, kind: str, where: str) -> bool:
    """Whether some bias would not fit a half float. The high byte is enough: the limits are powers of two."""
    largest = int((blocks[1 :: BLOCK_BYTES[kind]] & 0x7F).max()) << 8
    if largest >= HALF_INFINITY:
        raise ModelError(f"{where}: the tensor {shown(name)} has a scale that is not a finite number.")
    return largest >= HALF_INFINITY - HALF_EXPONENT * (OFFSET[kind].bit_length() - 1)


# ---- blocks (..., blocks a row, bytes) -> weights -----------------------------------------------


def _half(blocks: mx.array, first: int, wide: bool) -> mx.array:
    found = mx.contiguous(blocks[..., first : first + 2]).view(mx.float16).squeeze(-1)
    return found.astype(mx.float32) if wide else found


def _nibbles(blocks: mx.array, first: int) -> mx.array:
    """(..., n, bytes) -> (..., 4 n) uint32, neighbours beside each other."""
    both = blocks[..., first : first + 16]
    codes = mx.concatenate([both & 0x0F, both >> 4], axis=-1)
    return _packed(codes[..., 0::2] | (codes[..., 1::2] << 4))


def _packed(codes: mx.array) -> mx.array:
    words = mx.contiguous(codes).view(mx.uint32)
    return words.reshape(*words.shape[:-2], words.shape[-2] * words.shape[-1])


def _affine(packed: mx.array, scales: mx.array, biases: mx.array, bits: int) -> QuantizedWeight:
    return QuantizedWeight(packed, scales, biases, "affine", bits, GROUP)


def _q4_0(blocks: mx.array, wide: bool) -> QuantizedWeight:
    scales = _half(blocks, 0, wide)
    return _affine(_nibbles(blocks, 2), scales, scales * -OFFSET["Q4_0"], 4)


def _q4_1(blocks: mx.array, wide: bool) -> QuantizedWeight:
    return _affine(_nibbles(blocks, 4), _half(blocks, 0, wide), _half(blocks, 2, wide), 4)


def _q8_0(blocks: mx.array, wide: bool) -> QuantizedWeight:
    scales = _half(blocks, 0, wide)
    return _affine(_packed(blocks[..., 2:] ^ 0x80), scales, scales * -OFFSET["Q8_0"], 8)


_WEIGHTS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
