"""A recurrent memory goes back to where it stands, to the start, or to a snapshot; nowhere else."""

import mlx.core as mx

from mlxrun.cache.recurrent import Recurrent


def at(length: int) -> tuple[mx.array, mx.array]:
    return mx.full((1, 3, 2), length), mx.full((1, 4), -length)


def test_nothing_is_remembered_at_first():
    memory = Recurrent()
    assert memory.read() is None
    assert memory.bytes == 0
    assert memory.reusable(10) == 0
    assert memory.rewind(0)
    assert not memory.rewind(1)


def test_it_stands_where_it_was_written():
    memory = Recurrent()
    memory.write(7, *at(7))
    assert memory.bytes == (6 + 4) * 4
    assert [memory.reusable(n) for n in (0, 6, 7, 8)] == [0, 0, 7, 7]
    assert not memory.rewind(6)
    assert memory.rewind(7)
    assert memory.read()[1].tolist() == [[-7] * 4]


def test_the_start_forgets():
    memory = Recurrent()
    memory.write(7, *at(7))
    assert memory.rewind(0)
    assert memory.read() is None
    assert memory.reusable(7) == 0


def test_a_snapshot_survives_what_comes_after():
    memory = Recurrent()
    memory.write(3, *at(3))
    saved = memory.snapshot()
    memory.write(9, *at(9))
    memory.restore(saved)
    assert memory.reusable(9) == 3
    assert memory.read()[1].tolist() == [[-3] * 4]
