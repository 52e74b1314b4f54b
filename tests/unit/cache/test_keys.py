"""A memory of keys against the plainest one there is: a Python list."""

import mlx.core as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.cache.keys import SLACK, STEP, Keys


def rows(start: int, count: int) -> tuple[mx.array, mx.array]:
    """Two heads of width 2 whose values spell the position."""
    positions = mx.arange(start, start + count, dtype=mx.float32)[None, None, :, None]
    k = mx.broadcast_to(positions, (1, 2, count, 2))
    return k, -k


def seen(span) -> list[int]:
    keys, values = (np.array(a)[0, 0, :, 0] for a in span.arrays)
    assert (keys == -values).all()
    return keys.astype(int).tolist()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 90)),
        st.tuples(st.just("rewind"), st.integers(0, 60)),
        st.tuples(st.just("save"), st.just(0)),
        st.tuples(st.just("back"), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, keep=st.sampled_from([None, 1, 8, 40]))
def test_whatever_happens_a_query_finds_every_key_it_may_see(steps, keep):
    memory, length, saved = Keys(keep), 0, None
    for action, n in steps:
        if action == "append":
            span = memory.append(*rows(length, n))
            found = seen(span)
            assert found == list(range(span.first, length + n))
            oldest_needed = 0 if keep is None else max(0, length - keep + 1)
            assert span.first <= oldest_needed
            length += n
        elif action == "rewind":
            target = max(0, length - n)
            promised = memory.reusable(target) == target
            assert memory.rewind(target) == promised
            length = target if promised else length
        elif action == "save":
            saved = (memory.snapshot(), length)
        elif saved is not None:
            memory.restore(saved[0])
            length = saved[1]


def test_a_full_memory_can_always_go_back():
    memory = Keys()
    memory.append(*rows(0, 700))
    assert memory.rewind(13)
    assert seen(memory.append(*rows(13, 1))) == list(range(14))


def test_a_window_holds_a_bounded_stretch():
    memory = Keys(keep=16)
    length = 0
    for _ in range(200):
        span = memory.append(*rows(length, 7))
        length += 7
    assert span.arrays[0].shape[2] <= 16 + 2 * SLACK + 7
    assert memory.bytes <= 2 * 2 * 2 * 4 * (16 + 2 * SLACK + 7 + STEP)


def test_a_window_refuses_to_go_back_to_what_it_forgot():
    memory = Keys(keep=4)
    memory.append(*rows(0, 1000))
    memory.append(*rows(1000, 1))
    assert memory.reusable(10) == 0
    assert not memory.rewind(10)
    assert memory.rewind(0)


def test_writing_after_a_restore_leaves_the_snapshot_alone():
    memory = Keys()
    memory.append(*rows(0, 5))
    state = memory.snapshot()
    memory.restore(state)
    memory.rewind(2)
    memory.append(*rows(2, 1))
    memory.append(mx.full((1, 2, 2, 2), 99.0), mx.full((1, 2, 2, 2), -99.0))
    memory.restore(state)
    assert seen(memory.append(*rows(5, 1))) == list(range(6))
