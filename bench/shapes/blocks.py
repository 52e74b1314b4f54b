"""Random weights in llama.cpp's block formats: every code equally likely, scales such that products keep their size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Kind

PART = 1 << 18  # blocks at a time


@dataclass(frozen=True)
class Block:
    values: int
    size: int  # bytes
    scale_at: tuple[int, ...]  # where float16 scales lie
    scales: tuple[float, ...]  # each, as a multiple of the spread that a value shall have


def _spread(codes: int, centre: float) -> float:
    return float(np.sqrt(np.mean((np.arange(codes) - centre) ** 2)))


# A K-quant's sub-scales are random too: of 6 bits, unsigned (4 bits, and one that is subtracted), or of 8, signed.
_SIX = float(np.sqrt(np.mean(np.arange(64.0) ** 2)))
_EIGHT = float(np.sqrt(np.mean(np.arange(-128.0, 128) ** 2)))
_Q4_K = 1 / float(np.sqrt(_SIX**2 * (np.mean(np.arange(16.0) ** 2) + 7.5**2) - 2 * 31.5**2 * 7.5**2))
BLOCKS = {
    Kind.Q4_0: Block(32, 18, (0,), (1 / _spread(16, 8),)),
    Kind.Q5_0: Block(32, 22, (0,), (1 / _spread(32, 16),)),
    Kind.Q8_0: Block(32, 34, (0,), (1 / _spread(256, 128),)),
    Kind.Q4_K: Block(256, 144, (0, 2), (_Q4_K, 7.5 * _Q4_K)),
    Kind.Q6_K: Block(256, 210, (208,), (1 / (_EIGHT * _spread(64, 32)),)),
}
NARROW = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}  # for rows that no 256 divides, as llama.cpp's quantizer does


def random_rows(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind) -> tuple[np.ndarray, Kind]:
    """(..., bytes of a row), and the format that it is really in."""
    *rows, width = shape
    kind = NARROW.get(kind, kind) if width % BLOCKS[kind].values else kind
    block = BLOCKS[kind]
    if width % block.values:
        raise ValueError(f"rows of {width} values have no place in blocks of {block.values}")
    flat = np.empty((int(np.prod(rows)) * (width // block.values), block.size), np.uint8)
    for start in range(0, len(flat), PART):
        part = flat[start : start + PART]
        part[:] = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
        for at, scale in zip(block.scale_at, block.scales, strict=True):
            part[:, at : at + 2] = np.array([scale / width**0.5], np.float16).view(np.uint8)
    return flat.reshape(*rows, -1), kind


def more_bits(layer: int, layers: int) -> bool:
    """Of which layers a K mixture keeps some matrices in more bits: llama.cpp's own rule."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2


Chooser = Callable[[str, int, int], Kind]  # (matrix, layer, layers) -> format


def _plain(kind: Kind) -> Chooser:
    return lambda name, layer, layers: kind if kind == Kind.Q8_0 or name != "output" else Kind.Q6_K


def _q4_k_m(name: str, layer: int, layers: int) -> Kind:
    if name == "output" or (name in ("attn_v", "attn_qkv", "ffn_down") and more_bits(layer, layers)):
        return Kind.Q6_K
    return Kind.Q4_K


FORMS: dict[str, Chooser] = {"Q4_0": _plain(Kind.Q4_0), "Q4_K_M": _q4_k_m, "Q8_0": _plain(Kind.Q8_0)}
