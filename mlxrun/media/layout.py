"""In which order the patches of a picture lie, and where in a grid each stands. Knows no file and no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spec_towers import Grid

Pixels = NDArray[np.uint8]


def patches(pixels: Pixels, side: int, block: int) -> Pixels:
    """(height, width, 3) -> (patches, side * side * 3): blocks of block x block patches row by row, and so in each."""
    down, across = pixels.shape[0] // (side * block), pixels.shape[1] // (side * block)
    parts = pixels.reshape(down, block, side, across, block, side, 3)
    return np.ascontiguousarray(parts.transpose(0, 3, 1, 4, 2, 5, 6)).reshape(-1, side * side * 3)


def block_order(values: NDArray[np.int32], block: int) -> NDArray[np.int32]:
    """One value a patch (rows, cols), in the order of `patches`."""
    down, across = values.shape[0] // block, values.shape[1] // block
    return values.reshape(down, block, across, block).transpose(0, 2, 1, 3).reshape(-1)


def places(grid: Grid, rows: int, cols: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
    """(patches, taps): of each patch its rows of the grid, and how much of each; None: all of it."""
    if grid.how in TAPS:
        return blended(grid, rows, cols, block)
    if grid.how == "sum":
        line, column = coordinates(rows, cols, block)
        return np.stack([column, line + np.int32(grid.cols)], axis=1), None
    down, across = bucket(rows, grid.rows), bucket(cols, grid.cols)
    where = down[:, None] * np.int32(grid.cols) + across[None, :] + np.int32(grid.before)
    return block_order(where, block)[:, None], None


def blended(grid: Grid, rows: int, cols: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """In float32, as transformers has it (vision_utils.py)."""
    ways = TAPS[grid.how]
    taps = [ways(count, of) for count, of in ((rows, grid.rows), (cols, grid.cols))]
    order = block_order(np.arange(rows * cols, dtype=np.int32).reshape(rows, cols), block)
    (down, by_row), (across, by_col) = (
        (place[at], share[at]) for (place, share), at in zip(taps, divmod(order, cols), strict=True)
    )
    where = down[:, :, None] * np.int32(grid.cols) + across[:, None, :] + np.int32(grid.before)
    count = len(order)
    return where.reshape(count, -1), (by_row[:, :, None] * by_col[:, None, :]).reshape(count, -1)


def cubic(count: int, of: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(count, 4): the two on either side of it, weighed by Keys' cubic of -0.75; beyond an edge stands the edge."""
    place = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(of) / np.float32(count) - np.float32(
        0.5
    )
    sides = np.floor(place)[:, None] + np.arange(-1, 3, dtype=np.float32)
    apart, a = np.abs(place[:, None] - sides), np.float32(-0.75)
    near = ((a + 2) * apart - (a + 3)) * apart * apart + 1
    far = ((a * apart - 5 * a) * apart + 8 * a) * apart - 4 * a
    return np.clip(sides, 0, of - 1).astype(np.int32), np.where(apart <= 1, near, far).astype(np.float32)


def linear(count: int, of: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(count, 2): the two of `of` places between which each of `count` lies, and how near it is to them."""
    place = np.arange(count, dtype=np.float32) * np.float32(of - 1) / np.float32(max(1, count - 1))
    first = np.floor(place)
    sides = first[:, None] + np.arange(2, dtype=np.float32)
    near = np.maximum(np.float32(0), np.float32(1) - np.abs(place[:, None] - sides))
    return np.clip(sides, 0, of - 1).astype(np.int32), near.astype(np.float32)


TAPS = {"bilinear": linear, "bicubic": cubic}


def windows(rows: int, cols: int, block: int, side: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The blocks of a picture window by window, squares of `side` blocks; and how many each window has."""
    down, across = rows // block, cols // block
    line, column = np.indices((down, across))
    window = (line // side) * -(-across // side) + column // side
    return np.argsort(window.reshape(-1), kind="stable"), tuple(np.bincount(window.reshape(-1)).tolist())


def coordinates(rows: int, cols: int, block: int) -> NDArray[np.int32]:
    """(2, patches): of each its row and its column."""
    down, across = np.indices((rows, cols), np.int32)
    return np.stack([block_order(down, block), block_order(across, block)])


def bucket(count: int, of: int) -> NDArray[np.int32]:
    """Where `count` places at even distances lie among `of`, as Idefics finds it, in float32."""
    if count == of:
        return np.arange(of, dtype=np.int32)
    ways = np.minimum(np.arange(count, dtype=np.float32) * np.float32(1.0 / count), np.float32(1.0 - 1e-6))
    bounds = np.arange(1 / of, 1.0, 1 / of).astype(np.float32)
    return np.minimum(np.searchsorted(bounds, ways, side="right"), of - 1).astype(np.int32)
