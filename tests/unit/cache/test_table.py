"""Which pages a sequence has: grown, committed, taken back, forked and forgotten, group by group."""

from __future__ import annotations

import pytest

from mlxrun.cache.pages import OutOfPages, PageIds
from mlxrun.cache.table import GONE, Copy, Group, Share, Tables, grow_together

FULL, WINDOW, CHUNK = Group("full"), Group("window", reach=8), Group("chunk", chunk=8)


def tables(*groups: Group, size: int = 4, capacity: int | None = None) -> Tables:
    return Tables([(group, PageIds(size, 10, capacity)) for group in groups])


def grown(tables: Tables, length: int) -> list[Copy]:
    copies = tables.grow(length)
    tables.commit(length)
    tables.check()
    return copies


def test_pages_come_as_positions_do():
    one = tables(FULL)
    assert grown(one, 1) == []
    assert list(one.row(0)) == [0]
    assert grown(one, 9) == []
    assert list(one.row(0)) == [0, 1, 2]
    assert one.grow(9) == []
    assert one.bytes == Share(30, 0)


def test_only_what_was_grown_can_be_committed():
    one = tables(FULL)
    one.grow(5)
    one.commit(3)
    with pytest.raises(ValueError, match="6 positions cannot be committed: 3 are, and 5 have pages"):
        one.commit(6)
    with pytest.raises(ValueError, match="2 positions"):
        one.commit(2)


def test_a_fork_copies_the_page_that_it_writes_into_and_no_other():
    one = tables(FULL)
    grown(one, 6)
    other = one.fork()
    assert other.bytes == one.bytes == Share(0, 20)
    assert grown(other, 7) == [Copy(0, 1, 2)]
    assert list(other.row(0)) == [0, 2]
    assert grown(one, 7) == [], "nobody shares it any more"
    assert one.bytes == Share(10, 10)


def test_a_write_that_begins_with_a_page_copies_nothing():
    one = tables(FULL)
    grown(one, 8)
    other = one.fork()
    assert grown(other, 9) == []
    assert list(other.row(0)) == [0, 1, 2]


def test_without_pages_nothing_changes_in_any_group():
    one = Tables([(FULL, PageIds(4, 10)), (WINDOW, PageIds(4, 10, capacity=2))])
    grown(one, 6)
    other = one.fork()
    with pytest.raises(OutOfPages, match="1 more pages of group window are needed, and 0 are left"):
        other.grow(7)
    assert list(other.row(0)) == list(one.row(0)) == [0, 1]
    assert (other.length, other.end, other.groups[0][1].used) == (6, 6, 2)
    other.release()
    assert one.grow(8) == []


def test_several_grow_together_or_not_at_all():
    one = tables(FULL, capacity=4)
    grown(one, 6)
    other = one.fork()
    with pytest.raises(OutOfPages, match="4 more pages of group full are needed, and 2 are left"):
        grow_together([(other, 7), (one, 13)])
    assert list(other.row(0)) == list(one.row(0)) == [0, 1]
    assert grow_together([(other, 7), (one, 8)]) == [Copy(0, 1, 2)], "the other's page is its own by then"
    assert (list(one.row(0)), list(other.row(0))) == ([0, 1], [0, 2])
    assert grow_together([]) == []


def test_rewind_drops_what_lies_behind():
    one = tables(FULL)
    grown(one, 11)
    assert one.rewind(5)
    assert (one.length, one.end, list(one.row(0))) == (5, 5, [0, 1])
    assert not one.rewind(6)
    assert not one.rewind(-1)
    assert one.rewind(4)
    assert list(one.row(0)) == [0]
    one.check()


def test_rewind_into_a_shared_page_copies_it_on_the_next_write():
    one = tables(FULL)
    grown(one, 8)
    other = one.fork()
    assert other.rewind(6)
    assert grown(other, 7) == [Copy(0, 1, 2)]
    assert list(one.row(0)) == [0, 1]


def test_what_is_on_its_way_is_forked_and_taken_back_as_such():
    one = tables(FULL)
    grown(one, 8)
    one.grow(11)
    other = one.fork()
    assert (other.length, other.end) == (8, 11)
    assert other.grow(12) == [Copy(0, 2, 3)]
    assert other.rewind(10)
    assert (other.length, other.end) == (8, 10)


def test_what_is_not_committed_is_taken_back_without_a_trace():
    one = tables(FULL, WINDOW)
    grown(one, 10)
    one.forget()
    one.grow(14)
    assert one.rewind(10)
    assert (one.length, one.end) == (10, 10)
    one.check()


def test_a_window_forgets_pages_that_no_query_can_see():
    one = tables(WINDOW)
    grown(one, 11)
    one.forget()
    assert list(one.row(0)) == [GONE, 1, 2], "a query at 11 sees 4 to 11"
    grown(one, 12)
    one.forget()
    assert list(one.row(0)) == [GONE, 1, 2], "a query at 12 sees 5 to 12"
    grown(one, 15)
    one.forget()
    assert list(one.row(0)) == [GONE, GONE, 2, 0]
    one.check()


def test_a_window_cannot_go_back_to_where_it_would_miss_something():
    one = tables(FULL, WINDOW)
    grown(one, 20)
    one.forget()
    assert [one.reusable(n) for n in (20, 19, 18, 15, 3, 0)] == [20, 19, 0, 0, 0, 0]
    assert not one.rewind(18)
    assert one.end == 20
    assert one.rewind(19)
    assert one.rewind(0)
    assert one.bytes == Share(0, 0)


def test_a_chunk_goes_back_to_where_one_begins():
    one = tables(FULL, CHUNK)
    grown(one, 21)
    one.forget()
    assert list(one.row(1)) == [GONE] * 4 + [4, 5]
    assert [one.reusable(n) for n in (21, 17, 16, 15, 8, 7)] == [21, 17, 16, 8, 8, 0]
    assert one.rewind(8)
    assert list(one.row(1)) == [GONE, GONE]
    grown(one, 10)
    assert list(one.row(1)) == [GONE, GONE, 0]


def test_pages_that_somebody_else_has_make_a_sequence():
    one = tables(FULL, WINDOW)
    grown(one, 14)
    one.forget()
    other = Tables.of(one.groups, [one.row(0)[:3], one.row(1)[:3]], 11)
    assert grown(other, 12) == [Copy(0, 2, 4), Copy(1, 2, 0)]
    one.release()
    assert other.bytes == Share(50, 0)


def test_a_page_is_changed_for_one_that_holds_the_same():
    one, ids = tables(FULL), None
    grown(one, 8)
    ids = one.groups[0][1]
    twin = ids.take()
    one.use(0, 0, twin)
    assert list(one.row(0)) == [twin, 1]
    assert (ids.users(0), ids.users(twin)) == (0, 2)


def test_groups_have_pages_of_one_size():
    with pytest.raises(ValueError, match="different sizes"):
        Tables([(FULL, PageIds(4, 1)), (WINDOW, PageIds(8, 1))])


@pytest.mark.parametrize(
    ("group", "position", "oldest"),
    [(FULL, 9, 0), (WINDOW, 3, 0), (WINDOW, 7, 0), (WINDOW, 8, 1), (CHUNK, 7, 0), (CHUNK, 8, 8), (CHUNK, 15, 8)],
)
def test_the_oldest_position_that_is_seen(group: Group, position: int, oldest: int):
    assert group.oldest(position) == oldest
