"""Pictures of those who read: encoded some layers at a time, so that those who speak go on, and kept by their digest.

Knows no text and no file.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..contracts import Patches, SoftRows
from ..core import RequestError, Tile
from ..loading.model import Runnable
from ..media.layout import coordinates, places, windows
from ..memory.towers import AT_ONCE
from ..spec import Attention
from ..spec_towers import Tower
from .plan import PassPart
from .request import Row

KEPT = 256 << 20  # bytes of rows that are kept for who asks about the same picture again
TURN = 0.05  # seconds of a turn, where somebody speaks meanwhile


@dataclass(slots=True)
class Encoding:
    tiles: tuple[Tile, ...]
    steps: Iterator[mx.array]
    last: mx.array | None = None


class Pictures:
    def __init__(self, model: Runnable, clock: Callable[[], float] = time.perf_counter) -> None:
        self._model, self._clock = model, clock
        self._kept: OrderedDict[bytes, mx.array] = OrderedDict()
        self._now: Encoding | None = None
        self.encoded = 0  # tiles, ever

    @property
    def bytes(self) -> int:
        return sum(rows.nbytes for rows in self._kept.values())

    def clear(self) -> None:
        self._kept.clear()
        self._now = None

    def hand_out(self, rows: Sequence[Row]) -> Row | None:
        """Every row gets what is there of the pictures it has yet to read; the first that lacks one comes back."""
        waiting = None
        for row in rows:
            if row.media and row.memory.length < row.media[-1].end:
                if not self._ready(row) and waiting is None:
                    waiting = row
            elif row.shown:
                row.shown = {}
        return waiting

    def _ready(self, row: Row) -> bool:
        row.blind = None
        for one in row.media:
            key = one.tile.key
            if row.memory.length >= one.end or key in row.shown:
                continue
            if key not in self._kept:
                row.blind = one.first
                return False
            self._kept.move_to_end(key)
            row.shown[key] = self._kept[key]
        return True

    def step(self, row: Row, hurry: bool) -> None:
        """Some more of what that row waits for; `hurry`: somebody speaks meanwhile. Raises what the tower raises."""
        began = self._clock()
        if self._now is None:
            self._now = self._begin(row)
        now = self._now
        for rows in now.steps:
            mx.eval(rows)
            now.last = rows
            if hurry and self._clock() - began > TURN:
                return
        self._now = None
        assert now.last is not None
        first = 0
        for tile in now.tiles:
            self._kept[tile.key] = mx.contiguous(now.last[first : first + tile.rows])
            first += tile.rows
        mx.eval([self._kept[tile.key] for tile in now.tiles])
        self.encoded += len(now.tiles)
        wanted = {tile.key for tile in now.tiles}
        while self.bytes > KEPT and (old := next(iter(self._kept))) not in wanted:
            del self._kept[old]

    def _begin(self, row: Row) -> Encoding:
        tower = self._model.tower
        if tower is None:
            raise RequestError("This model sees no pictures.")
        tiles: dict[bytes, Tile] = {}
        patches = 0
        for tile in (one.tile for one in row.media if one.end > row.memory.length):
            if tile.key in self._kept or tile.key in row.shown or tile.key in tiles:
                continue
            patches += tile.grid[0] * tile.grid[1]
            if tiles and patches > AT_ONCE:
                break
            tiles[tile.key] = tile
        chosen = tuple(tiles.values())
        return Encoding(chosen, tower.encode(laid_out(tower.spec, chosen)))


def laid_out(spec: Tower, tiles: Sequence[Tile]) -> Patches:
    """Their patches, block by block, or window by window where layers look within windows."""
    colours = np.concatenate([np.frombuffer(tile.data, np.uint8) for tile in tiles]).reshape(-1, 3 * spec.patch.side**2)
    where, shares, turns = None, None, None
    if spec.grid is not None:
        taps = [places(spec.grid, *tile.grid, spec.block) for tile in tiles]
        where = np.concatenate([at for at, _ in taps])
        shares = None if taps[0][1] is None else np.concatenate([share for _, share in taps if share is not None])
    if any(isinstance(layer.mixer, Attention) and layer.mixer.rope is not None for layer in spec.layers[:1]):
        turns = np.concatenate([coordinates(*tile.grid, spec.block) for tile in tiles], axis=1)
    counts = tuple(tile.grid[0] * tile.grid[1] for tile in tiles)
    if not spec.window:
        return Patches(mx.array(colours), given(where), given(shares), given(turns), counts)
    order, sizes = in_windows(spec, tiles)
    patches = (order[:, None] * spec.block**2 + np.arange(spec.block**2)).reshape(-1)
    where, shares = (None if one is None else one[patches] for one in (where, shares))
    turns = None if turns is None else turns[:, patches]
    back = mx.array(np.argsort(order).astype(np.int32))
    return Patches(mx.array(colours[patches]), given(where), given(shares), given(turns), counts, sizes, back)


def given(values: np.ndarray | None) -> mx.array | None:
    return None if values is None else mx.array(values)


def in_windows(spec: Tower, tiles: Sequence[Tile]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Their blocks window by window, and how many patches each window has."""
    found, sizes, first = list[np.ndarray](), list[int](), 0
    for tile in tiles:
        order, counts = windows(*tile.grid, spec.block, spec.window)
        found.append(order + first)
        sizes += [count * spec.block**2 for count in counts]
        first += len(order)
    return np.concatenate(found), tuple(sizes)


def soft_rows(parts: Sequence[PassPart]) -> SoftRows | None:
    """Of a pass, what towers made; None: nothing, as nearly always."""
    rows, values, start = list[int](), list[mx.array](), 0
    for part in parts:
        if part.row.shown and part.ids is not None:
            first, end = part.end - len(part.ids), part.end
            for one in part.row.media:
                done = 0
                for at, count in one.spans:
                    low, high = max(at, first), min(at + count, end)
                    if low < high:
                        rows += range(start + low - first, start + high - first)
                        values.append(part.row.shown[one.tile.key][done + low - at : done + high - at])
                    done += count
        start += part.count
    if not rows:
        return None
    return SoftRows(mx.array(rows, mx.int32), mx.concatenate(values), [whole_of(part) for part in parts])


def whole_of(part: PassPart) -> tuple[tuple[int, int], ...]:
    """Where the pictures lie whose rows see each other and are in the pass."""
    first = part.end - part.count
    return tuple(
        (one.first, one.end) for one in part.row.media if one.whole and one.first < part.end and one.end > first
    )
