"""Attention of decoded rows over keys and values that lie in pages, found through a table for each row.

One kernel for grouped heads and for latent attention, where the values are part of the keys: plain 16-bit or
32-bit pages, or 8- and 4-bit codes. Rows that check guessed tokens are rows like others, with lengths of their own.
Up to 1024 values a head; of wide ones few go at once, because queries and sums live in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .check import SMALL, floating, need
from .launch import Body, launch, number
from .tiles import STANDARD, AttentionTile

INPUTS = (
    *("q", "k", "k_scales", "k_biases", "v", "v_scales", "v_biases"),
    *("tables", "lengths", "sinks", "numbers"),
)
PAGED = Body("paged_attention", INPUTS, ("y", "marks"), ("pages.h",))
JOIN = Body("join_blocks", ("parts", "marks"), ("y",))
MOST_VALUES, SHARED_MEMORY = 1024, 32768
# values a head, heads at once: a lane holds a 32nd of their queries and sums, and has some 128 registers
AT_ONCE = ((256, 4), (640, 2), (MOST_VALUES, 1))


@dataclass(frozen=True, slots=True)
class Pages:
    """Rows of keys or values, (pages, G, page, D); or codes, (..., D * bits / 32) uint32, scales and biases."""

    rows: mx.array
    scales: mx.array | None = None  # (pages, G, page, D / group)
    biases: mx.array | None = None
    bits: int = 16
    group: int = 64

    @property
    def width(self) -> int:
        return self.rows.shape[3] if self.scales is None else self.rows.shape[3] * 32 // self.bits


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """What scores go through."""

    scale: float
    window: int = 0  # keys seen, the row's own among them; 0: all
    softcap: float = 0.0  # 0: none
    sinks: mx.array | None = None  # (H,)


def paged_attention(
    q: mx.array,
    k: Pages,
    v: Pages | int,
    tables: mx.array,
    lengths: mx.array,
    sight: ScoreRule,
    tile: AttentionTile = STANDARD.attention,
) -> mx.array:
    """q (T, H, D), tables (T, most pages) uint32, lengths (T,) int32 of at least 1 -> (T, H, Dv), Dv the width of v.

    `v` as a number: the values are that many of the first values of the keys.
    """
    _check(q, k, v, tables, lengths, sight)
    rows, count, size = q.shape
    width = v if isinstance(v, int) else v.width
    groups = k.rows.shape[1]
    tile = _fitted(tile, count // groups, size, width)
    values = k if isinstance(v, int) else v
    made = q.dtype if tile.blocks == 1 else mx.float32
    template: dict[str, object] = {
        "T": q.dtype,
        "O": made,
        "H": count,
        "G": groups,
        "D": size,
        "DV": width,
        "BITS": 16 if k.scales is None else k.bits,
        "GROUP": k.group,
        "HEADS": tile.heads,
        "SIMDGROUPS": tile.simdgroups,
        "BLOCKS": tile.blocks,
        "WINDOW": sight.window,
        "SOFTCAP": sight.softcap > 0,
        "SINKS": sight.sinks is not None,
        "SHARED": isinstance(v, int),
    }
    slices = -(-(count // groups) // tile.heads)
    y, marks = launch(
        PAGED,
        (
            q,
            *_parts(k, q),
            *_parts(values, q),
            tables,
            lengths,
            q if sight.sinks is None else sight.sinks,
            number(sight.scale, sight.softcap),
        ),
        [((rows, count, tile.blocks, width), made), ((rows, count, tile.blocks, 2), mx.float32)],
        template,
        groups=(groups * slices, rows, tile.blocks),
        threads=32 * tile.simdgroups,
    )
    if tile.blocks == 1:
        return y.reshape(rows, count, width)
    own = {"T": q.dtype, "H": count, "DV": width, "BLOCKS": tile.blocks}
    shape = (rows, count, width)
    return launch(JOIN, (y, marks), [(shape, q.dtype)], own, groups=(count, rows, 1), threads=32)[0]


def _parts(pages: Pages, q: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Plain rows have no scales: those are never read."""
    if pages.scales is None or pages.biases is None:
        return pages.rows, q, q
    return pages.rows, pages.scales, pages.biases


def _fitted(tile: AttentionTile, of_group: int, size: int, width: int) -> AttentionTile:
    """No more heads than a group has or registers hold, no more threadgroup memory than there is."""
    simdgroups = min(tile.simdgroups, SHARED_MEMORY // (4 * (width + 2)))
    most = next(heads for values, heads in AT_ONCE if max(size, width) <= values)
    return AttentionTile(min(tile.heads, of_group, most), simdgroups, tile.blocks)


def _check(q: mx.array, k: Pages, v: Pages | int, tables: mx.array, lengths: mx.array, sight: ScoreRule) -> None:
    floating("q", q)
    need(q.ndim == 3, f"q has {q.ndim} axes; it must be (T, H, D).")
    rows, count, size = q.shape
    need(SMALL <= size <= MOST_VALUES, f"A head has {size} values; the kernel takes {SMALL} to {MOST_VALUES}.")
    for name, pages in (("k", k), *(() if isinstance(v, int) else (("v", v),))):
        _check_pages(name, pages, q.dtype)
    need(k.width == size, f"k has heads of {k.width} values, q of {size}.")
    need(count % k.rows.shape[1] == 0, f"{count} query heads cannot share {k.rows.shape[1]} key heads.")
    if isinstance(v, int):
        need(0 < v <= size, f"The values are {v} of a key's {size} values.")
    else:
        need(v.rows.shape[:3] == k.rows.shape[:3], f"v has pages {v.rows.shape[:3]}, k has {k.rows.shape[:3]}.")
        alike = (v.scales is None) == (k.scales is None) and (v.bits, v.group) == (k.bits, k.group)
        need(alike, "k and v must be quantized alike.")
    need(tables.ndim == 2 and tables.shape[0] == rows, f"tables have shape {tuple(tables.shape)}; q has {rows} rows.")
    need(tables.dtype == mx.uint32, f"tables are {tables.dtype}; the kernel takes uint32.")
    need(tuple(lengths.shape) == (rows,), f"lengths have shape {tuple(lengths.shape)}; q has {rows} rows.")
    need(lengths.dtype == mx.int32, f"lengths are {lengths.dtype}; the kernel takes int32.")
    if sight.sinks is not None:
        need(tuple(sight.sinks.shape) == (count,), f"sinks have shape {tuple(sight.sinks.shape)}; q has {count} heads.")


def _check_pages(name: str, pages: Pages, dtype: mx.Dtype) -> None:
    need(pages.rows.ndim == 4, f"{name} has {pages.rows.ndim} axes; pages have 4.")
    held = pages.rows if pages.scales is None else pages.scales
    need(held.size >= SMALL, f"{name} has {held.size} numbers; the kernel takes {SMALL} or more.")
    if pages.scales is None or pages.biases is None:
        need(pages.rows.dtype == dtype, f"{name} is {pages.rows.dtype}, q is {dtype}; they must be the same.")
        return
    need(pages.bits in (4, 8), f"{name} has {pages.bits} bits; the kernel takes 4 or 8.")
    need(pages.rows.dtype == mx.uint32, f"{name} is {pages.rows.dtype}; codes are uint32.")
    need(
        pages.width % pages.group == 0,
        f"{name} has {pages.width} values, not a multiple of the group of {pages.group}.",
    )
    expected = (*pages.rows.shape[:3], pages.width // pages.group)
    for part in (pages.scales, pages.biases):
        need(tuple(part.shape) == expected, f"{name}'s scales have shape {tuple(part.shape)}; they must be {expected}.")
        need(part.dtype == dtype, f"{name}'s scales are {part.dtype}, q is {dtype}; they must be the same.")
