"""The states of recurrent layers as bytes, and back: dtypes and shapes first, then what is in the arrays."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from math import prod

import mlx.core as mx

from .recurrent import RecurrentState

LENGTH = struct.Struct("<Q")  # of the description
DTYPES = {str(dtype): dtype for dtype in (mx.float32, mx.float16, mx.bfloat16)}


def state_bytes(states: Sequence[RecurrentState]) -> bytes:
    """Waits until they are computed."""
    arrays = [list(state.arrays or ()) for state in states]
    shapes = [[[str(one.dtype), list(one.shape)] for one in held] for held in arrays]
    described = json.dumps([[state.length, held] for state, held in zip(states, shapes, strict=True)]).encode()
    flat = [mx.contiguous(one).reshape(-1).view(mx.uint8) for held in arrays for one in held]
    mx.eval(flat)
    raw = [bytes(memoryview(one)) for one in flat]  # type: ignore[arg-type]  # it has a buffer
    return b"".join([LENGTH.pack(len(described)), described, *raw])


def states_of(content: bytes) -> tuple[RecurrentState, ...]:
    """ValueError where they are not what `state_bytes` makes."""
    try:
        (length,) = LENGTH.unpack_from(content)
        described = json.loads(content[LENGTH.size : LENGTH.size + length])
        place, states = LENGTH.size + length, []
        for at, held in described:
            arrays = []
            for name, shape in held:
                size = prod(shape) * DTYPES[name].size
                raw = memoryview(content)[place : place + size]
                flat = mx.array(raw, dtype=mx.uint8)  # type: ignore[arg-type]  # it takes a buffer
                arrays.append(flat.view(DTYPES[name]).reshape(shape))
                place += size
            states.append(RecurrentState(tuple(arrays) or None, int(at)))
    except (struct.error, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"These are no states: {error}.") from None
    if place != len(content):
        raise ValueError("These are no states: their arrays have another length than is said.")
    return tuple(states)
