"""States of recurrent layers go to bytes and come back bit by bit."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun.cache.recurrent import RecurrentState
from mlxrun.cache.state_bytes import state_bytes, states_of

STATES = (
    RecurrentState((mx.random.normal((1, 3, 8)).astype(mx.bfloat16), mx.random.normal((1, 2, 4, 4))), 17),
    RecurrentState((mx.random.normal((1, 5)).astype(mx.float16),), 17),
    RecurrentState(None, 0),
)


def test_they_come_back_bit_by_bit():
    back = states_of(state_bytes(STATES))
    assert [state.length for state in back] == [17, 17, 0]
    assert back[2].arrays is None
    for state, before in zip(back[:2], STATES, strict=False):
        for array, was in zip(state.arrays, before.arrays, strict=True):
            assert (array.dtype, array.shape) == (was.dtype, was.shape)
            assert mx.array_equal(array, was)


def test_a_part_of_an_array_is_a_copy_of_that_part():
    whole = mx.arange(24, dtype=mx.float32).reshape(2, 3, 4)
    (back,) = states_of(state_bytes([RecurrentState((whole[1:2, :, ::2],), 3)]))
    assert back.arrays[0].tolist() == whole[1:2, :, ::2].tolist()


BROKEN = {
    "nothing": b"",
    "too short": b"\1\0\0",
    "no description": bytes(8),
    "cut off": state_bytes(STATES)[:-1],
    "longer": state_bytes(STATES) + b"\0",
    "not a list": b"\2\0\0\0\0\0\0\0{}9",
    "another dtype": b"\x11\0\0\0\0\0\0\0" + b'[[3,[["int8",[]]]]]',
    "half a list": b"\4\0\0\0\0\0\0\0[[3]",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_state_is_refused(content: bytes):
    with pytest.raises(ValueError, match="These are no states"):
        states_of(content)
