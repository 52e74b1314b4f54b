"""What the chunked forms of recurrent scans share: cutting a sequence up, decays between two rows.

A chunk's rows are handled together by matrix products; only the state goes from chunk to chunk.
"""

from __future__ import annotations

import mlx.core as mx

CHUNK = 64  # rows handled together; a power of two


def chunk_of(length: int) -> int:
    """Rows of a chunk for a sequence of that length: short ones are not padded to a whole chunk."""
    return min(CHUNK, 1 << (length - 1).bit_length())


def cut(x: mx.array, chunk: int) -> mx.array:
    """(B, L, H, ...) -> (chunks, B, H, chunk, ...), zeros behind the last row."""
    batch, length, heads, *rest = x.shape
    count = -(-length // chunk)
    if count * chunk > length:
        x = mx.pad(x, [(0, 0), (0, count * chunk - length)] + [(0, 0)] * (x.ndim - 2))
    x = x.reshape(batch, count, chunk, heads, *rest)
    return x.transpose(1, 0, 3, 2, *range(4, x.ndim))


def joined(chunks: list[mx.array], length: int) -> mx.array:
    """A (B, H, chunk, D) for each chunk -> (B, L, H, D)."""
    rows = chunks[0] if len(chunks) == 1 else mx.concatenate(chunks, axis=2)
    return rows[:, :, :length].transpose(0, 2, 1, 3)


def log_decays(log_decay: mx.array) -> mx.array:
    """(..., C) a row -> (..., C, C): from row j to row i the sum over j+1 .. i, -inf where j > i.

    Summed for every pair on its own, not as a difference of running totals: those lose what is small
    behind something large.
    """
    size = log_decay.shape[-1]
    row, column = mx.arange(size)[:, None], mx.arange(size)[None]
    terms = mx.where(row > column, log_decay[..., None], 0.0)
    return mx.where(row >= column, mx.cumsum(terms, axis=-2), -mx.inf)
