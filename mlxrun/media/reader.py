"""A picture file -> what stands for it in a prompt: words, and the tiles whose rows take the places among them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ..core import Tile
from ..spec_towers import PictureWords, Towers
from .fit import Cutting, cut
from .layout import patches
from .open import open_picture

if TYPE_CHECKING:
    from PIL import Image

KEPT = 64 << 20  # bytes of tiles


@dataclass(frozen=True, slots=True)
class SeenPicture:
    words: str
    tiles: tuple[Tile, ...]


class PictureReader:
    """Of one model. A conversation sends its pictures again with every turn: those read last are kept."""

    def __init__(self, towers: Towers) -> None:
        self._picture, self._tower = towers.picture, towers.vision
        self._kept: OrderedDict[bytes, SeenPicture] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    @property
    def placeholder(self) -> str:
        return self._picture.written.placeholder

    @property
    def soft(self) -> int:
        """The token in whose place a row comes."""
        return self._picture.soft

    @property
    def whole(self) -> bool:
        """Whether the rows of a tile see each other."""
        return self._picture.whole

    def read(self, data: bytes, name: str = "The picture") -> SeenPicture:
        """A RequestError says why it cannot be read; `name` stands at its beginning."""
        key = hashlib.blake2b(data, digest_size=16).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._seen(cut(open_picture(data, name), self._picture.fit, self._picture.filter))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += size_of(made)
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= size_of(self._kept.popitem(last=False)[1])
        return made

    def _seen(self, parts: Cutting) -> SeenPicture:
        tiles = tuple(map(self._tile, parts.tiles))
        return SeenPicture(words_of(self._picture.written, parts, [self._soft(tile) for tile in tiles]), tiles)

    def _soft(self, tile: Tile) -> str:
        """The words in whose places its rows come."""
        w, down = self._picture.written, tile.grid[0] // self._tower.block
        return w.row.join([w.soft * (tile.rows // down)] * down)

    def _tile(self, picture: Image.Image) -> Tile:
        side, block = self._tower.patch.side, self._tower.block
        grid = picture.height // side, picture.width // side
        data = patches(np.asarray(picture, np.uint8), side, block).tobytes()
        key = hashlib.blake2b(data, digest_size=16, salt=b"%d %d" % grid).digest()
        shape = (grid[0] // block, grid[1] // block) if self._picture.apart else None
        return Tile(key, grid[0] * grid[1] // block**2, grid, data, shape)


def eyes_of(towers: Towers | None) -> PictureReader | None:
    """Who reads pictures for a model with these; None: it sees none."""
    return None if towers is None else PictureReader(towers)


def size_of(seen: SeenPicture) -> int:
    return sum(len(tile.data) for tile in seen.tiles)


def words_of(w: PictureWords, parts: Cutting, soft: list[str]) -> str:
    if not parts.overview:
        return w.before + w.alone + soft[0] + w.after
    words, left = w.before, iter(soft)
    for row in range(1, parts.rows + 1):
        for col in range(1, parts.cols + 1):
            words += w.tile.format(row=row, col=col) + next(left)
        words += w.line
    return words + w.overview + next(left) + w.after
