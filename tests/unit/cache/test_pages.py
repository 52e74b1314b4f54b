"""Ids of pages: the lowest free one first, free at once without users, and idle where only the tree has it."""

from __future__ import annotations

import pytest

from mlxrun.cache.pages import OutOfPages, PageIds


def test_the_lowest_free_id_is_taken_first():
    ids = PageIds(16, 100)
    assert [ids.take() for _ in range(4)] == [0, 1, 2, 3]
    ids.drop(2)
    ids.drop(0)
    assert [ids.take() for _ in range(3)] == [0, 2, 4]
    assert ids.bytes == 500


def test_the_end_shrinks_with_its_last_user_and_ids_begin_there_again():
    ids = PageIds(16, 100)
    for _ in range(5):
        ids.take()
    ids.drop(2)
    ids.drop(3)
    assert ids.highest == 5
    ids.drop(4)
    assert ids.highest == 2
    assert [ids.take() for _ in range(4)] == [2, 3, 4, 5]
    ids.check(dict.fromkeys(range(6), 1), {})


def test_a_page_is_free_when_its_last_user_drops_it():
    ids = PageIds(16, 100)
    page = ids.take()
    ids.hold(page)
    ids.drop(page)
    assert (ids.users(page), ids.used) == (1, 1)
    ids.drop(page)
    assert (ids.users(page), ids.used) == (0, 0)


def test_idle_is_what_only_the_tree_has():
    ids = PageIds(16, 100)
    page = ids.take()
    ids.keep(page)
    ids.keep(page)
    assert (ids.idle, ids.kept, ids.is_idle(page)) == (0, 1, False)
    ids.drop(page)
    assert (ids.idle, ids.kept, ids.is_idle(page)) == (1, 1, True)
    ids.hold(page)
    assert ids.idle == 0
    ids.drop(page)
    ids.let_go(page)
    assert (ids.idle, ids.kept) == (1, 1)
    ids.let_go(page)
    assert (ids.idle, ids.kept, ids.used) == (0, 0, 0)


def test_the_capacity_can_be_set_and_lowered_below_what_is_used():
    ids = PageIds(16, 100, capacity=2)
    ids.take()
    ids.take()
    with pytest.raises(OutOfPages, match="All 2 pages of 16 positions are in use"):
        ids.take()
    ids.capacity = 1
    assert ids.room == 0
    ids.drop(0)
    with pytest.raises(OutOfPages):
        ids.take()
    ids.capacity = None
    assert ids.take() == 0


@pytest.mark.parametrize("size", [0, -1, 3, 48])
def test_a_page_is_a_power_of_two_of_positions(size: int):
    with pytest.raises(ValueError, match=f"power of two of positions, not {size}"):
        PageIds(size, 1)


@pytest.mark.parametrize("change", [PageIds.hold, PageIds.drop, PageIds.keep, PageIds.let_go])
def test_a_page_that_nobody_uses_cannot_be_dropped(change):
    ids = PageIds(16, 100)
    ids.take()
    ids.drop(0)
    with pytest.raises(ValueError, match="Page 0 is in nobody's use"):
        change(ids, 0)


def test_check_finds_what_was_counted_wrong():
    ids = PageIds(16, 100)
    ids.take()
    ids.check({0: 1}, {})
    with pytest.raises(AssertionError):
        ids.check({0: 2}, {})
    with pytest.raises(AssertionError):
        ids.check({}, {})
