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


def places(grid: Grid, rows: int, cols: int, block: int) -> NDArray[np.int32]:
    """Of each patch, its row of the grid."""
    down, across = bucket(rows, grid.rows), bucket(cols, grid.cols)
    return block_order(down[:, None] * np.int32(grid.cols) + across[None, :] + np.int32(grid.before), block)


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
