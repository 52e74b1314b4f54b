"""Blocks of ggml's codebook types (IQ): values are looked up in tables of 4, 8 or 16. Everything stays lazy.

Without loss: IQ4_NL and IQ4_XS (a table of 16 whole numbers: 8 bits), IQ3_S (16 levels at equal distances),
IQ1_S (three). Nearly so: IQ2_XXS and IQ3_XXS have one level that is off an equal distance by a seventeenth or a
quarter. The others have groups of 16 and are refitted. The tables lie in codebooks.bin, which holds for every
entry of every table 8 numbers of 2 bits or 4 of 3; they are part of the format, as ggml-common.h has them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..ops.quantized import QuantizedWeight
from .gguf_blocks import SUPER, fields, half, rows, whole
from .repack import affine

FILE = Path(__file__).with_name("codebooks.bin")
# name: (first byte, entries, numbers an entry, what the numbers stand for)
TABLES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "IQ2_XXS": (0, 256, 8, (8, 25, 43)),
    "IQ2_XS": (512, 512, 8, (8, 25, 43)),
    "IQ2_S": (1536, 1024, 8, (8, 25, 43)),
    "IQ3_XXS": (3584, 256, 4, (4, 12, 20, 28, 36, 44, 52, 62)),
    "IQ3_S": (4096, 512, 4, (1, 3, 5, 7, 9, 11, 13, 15)),
    "IQ1_S": (5120, 2048, 8, (-1, 0, 1)),
}
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
DELTA = 0.125  # of IQ1


@lru_cache(maxsize=1)
def _file() -> bytes:
    return FILE.read_bytes()


def numbers(name: str) -> mx.array:
    """(entries, numbers an entry) uint8: places in the list of values."""
    first, entries, width, _ = TABLES[name]
    bits = 16 // width if width == 8 else 3
    words = np.frombuffer(_file(), "<u2", entries, first)
    return mx.array(((words[:, None] >> (bits * np.arange(width))) & (2**bits - 1)).astype(np.uint8))


def look_up(name: str, index: mx.array) -> mx.array:
    """index (..., n, k) -> values (..., n, 256) float32."""
    values = mx.array(TABLES[name][3], mx.float32)[numbers(name)]
    return values[index].reshape(*index.shape[:-1], SUPER)


def levels(name: str, index: mx.array, negative: mx.array) -> mx.array:
    """Signed values by rank, lowest first: (..., n, 256) uint8. `negative` is 1 where the sign is minus."""
    count = len(TABLES[name][3])
    rank = numbers(name)[index].reshape(*index.shape[:-1], SUPER)
    return mx.where(negative == 1, count - 1 - rank, count + rank)


def _words(raw: mx.array, dtype: mx.Dtype) -> mx.array:
    return mx.contiguous(raw).view(dtype)


def _seven_bit_signs(words: mx.array) -> mx.array:
    """Four runs of seven signs a word; the eighth of each makes their number even."""
    seven = (words[..., None] >> mx.array([0, 7, 14, 21], mx.uint32)) & 127
    return _eight_signs(seven.astype(mx.uint8)).reshape(*words.shape[:-1], SUPER)


def _eight_signs(seven: mx.array) -> mx.array:
    """(...) bytes of seven signs -> (..., 8)."""
    signs = (seven[..., None] >> mx.arange(7).astype(mx.uint8)) & 1
    last = signs.sum(axis=-1, keepdims=True).astype(mx.uint8) & 1
    return mx.concatenate([signs, last], axis=-1)


def _signed(values: mx.array, negative: mx.array) -> mx.array:
    return values * (1 - 2 * whole(negative))


def _by_group(values: mx.array, scales: mx.array) -> mx.array:
    """values (..., n, 256) times scales (..., n, groups)."""
    groups = scales.shape[-1]
    shaped = values.reshape(*values.shape[:-1], groups, SUPER // groups)
    return (shaped * scales[..., None]).reshape(values.shape)


# ---- four bits ----------------------------------------------------------------------------------


def _sixteen(codes: mx.array, scales: mx.array) -> QuantizedWeight:
    table = mx.array([value + 128 for value in IQ4], mx.uint8)
    return affine(rows(table[codes]), rows(scales), rows(-128 * scales), 8)


def iq4_nl(b: mx.array) -> QuantizedWeight:
    return _sixteen(fields(b[..., 2:], 1, 4), half(b, 0))


def iq4_xs(b: mx.array) -> QuantizedWeight:
    high = (_words(b[..., 2:4], mx.uint16) >> mx.arange(0, 16, 2).astype(mx.uint16)) & 3
    low = b[..., 4:8]
    low = mx.stack([low & 15, low >> 4], axis=-1).reshape(*low.shape[:-1], 8)
    scales = whole(low) + 16 * whole(high) - 32
    return _sixteen(fields(b[..., 8:], 8, 4), half(b, 0) * scales)


# ---- three bits ---------------------------------------------------------------------------------


def _iq3_xxs(b: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """(table places, signs, scales of groups of 32)."""
    words = _words(b[..., 66:], mx.uint32)
    return b[..., 2:66], _seven_bit_signs(words), half(b, 0) * (0.5 + whole(words >> 28)) * 0.5


def iq3_xxs(b: mx.array) -> QuantizedWeight:
    """Levels 8 apart, but for the outermost: 62 instead of 60."""
    index, negative, scales = _iq3_xxs(b)
    return affine(rows(levels("IQ3_XXS", index, negative)), rows(8 * scales), rows(-60 * scales), 4)


def iq3_xxs_values(b: mx.array) -> mx.array:
    index, negative, scales = _iq3_xxs(b)
    return _by_group(_signed(look_up("IQ3_XXS", index), negative), scales)


def iq3_s(b: mx.array) -> QuantizedWeight:
    index = b[..., 2:66].astype(mx.uint16) | (fields(b[..., 66:74], 8, 1).astype(mx.uint16) << 8)
    raw = b[..., 106:]
    scales = mx.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], 8)
    steps = half(b, 0) * (1 + 2 * whole(scales))
    codes = levels("IQ3_S", index, fields(b[..., 74:106], 32, 1))
    return affine(rows(codes), rows(2 * steps), rows(-15 * steps), 4)


# ---- two bits -----------------------------------------------------------------------------------


def _iq2_xxs(b: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    pairs = b[..., 2:].reshape(*b.shape[:-1], 8, 8)  # four places and a word of signs and scale for 32 values
    words = _words(pairs[..., 4:], mx.uint32).squeeze(-1)
    index = pairs[..., :4].reshape(*b.shape[:-1], 32)
    return index, _seven_bit_signs(words), half(b, 0) * (0.5 + whole(words >> 28)) * 0.25


def iq2_xxs(b: mx.array) -> QuantizedWeight:
    """Levels 8, 25 and 43 become 8.5, 25.5 and 42.5."""
    index, negative, scales = _iq2_xxs(b)
    return affine(rows(levels("IQ2_XXS", index, negative)), rows(17 * scales), rows(-42.5 * scales), 3)


def iq2_xxs_values(b: mx.array) -> mx.array:
    index, negative, scales = _iq2_xxs(b)
    return _by_group(_signed(look_up("IQ2_XXS", index), negative), scales)


def iq2_xs_values(b: mx.array) -> mx.array:
    words = _words(b[..., 2:66], mx.uint16)
    negative = _eight_signs((words >> 9).astype(mx.uint8)).reshape(*b.shape[:-1], SUPER)
    return _by_group(_signed(look_up("IQ2_XS", words & 511), negative), _quarter_scales(b, 66))


def iq2_s_values(b: mx.array) -> mx.array:
    raw = b[..., 66:74]
    high = (raw[..., None] >> mx.array([0, 2, 4, 6], mx.uint8)) & 3
    index = b[..., 2:34].astype(mx.uint16) | (high.reshape(*b.shape[:-1], 32).astype(mx.uint16) << 8)
    return _by_group(_signed(look_up("IQ2_S", index), fields(b[..., 34:66], 32, 1)), _quarter_scales(b, 74))


def _quarter_scales(b: mx.array, at: int) -> mx.array:
    """Sixteen scales of four bits, the low one of a byte first."""
    raw = b[..., at : at + 8]
    scales = mx.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], 16)
    return half(b, 0) * (0.5 + whole(scales)) * 0.25


# ---- less than two bits -------------------------------------------------------------------------


def iq1_s(b: mx.array) -> QuantizedWeight:
    """Three values and one shift for 32 of them."""
    words = _words(b[..., 34:], mx.uint16)
    steps = half(b, 0) * (2 * whole((words >> 12) & 7) + 1)
    delta = mx.where((words & 0x8000) == 0, DELTA, -DELTA)
    high = (words[..., None] >> mx.array([0, 3, 6, 9], mx.uint16)) & 7
    index = b[..., 2:34].astype(mx.uint16) | (high.reshape(*b.shape[:-1], 32) << 8)
    codes = numbers("IQ1_S")[index].reshape(*b.shape[:-1], SUPER)
    return affine(rows(codes), rows(steps), rows(steps * (delta - 1)), 2)


def iq1_m_values(b: mx.array) -> mx.array:
    """The half float lies in the high four bits of four words; the shift is one of eight values."""
    words = _words(b[..., 48:], mx.uint16)
    pieces = (words & 0xF000) >> mx.array([12, 8, 4, 0], mx.uint16)
    d = pieces.sum(axis=-1, keepdims=True).astype(mx.uint16).view(mx.float16).astype(mx.float32)
    scales = ((words[..., None] >> mx.array([0, 3, 6, 9], mx.uint16)) & 7).reshape(*b.shape[:-1], 16)
    raw = b[..., 32:48]
    high = mx.stack([raw & 15, raw >> 4], axis=-1).reshape(*b.shape[:-1], 32)
    index = b[..., :32].astype(mx.uint16) | ((high & 7).astype(mx.uint16) << 8)
    delta = mx.where((high & 8) == 0, DELTA, -DELTA)
    return _by_group(
        _by_group(look_up("IQ1_S", index), mx.ones_like(delta)) + mx.repeat(delta, 8, axis=-1),
        d * (2 * whole(scales) + 1),
    )
