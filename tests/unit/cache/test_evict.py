"""Who goes first: what was unused the longest; never who is in use, pinned, or the session that went on last."""

from __future__ import annotations

from mlxrun.cache.check import check_all
from mlxrun.cache.evict import TreeLimits
from mlxrun.cache.pages import PageIds
from mlxrun.cache.tree import PrefixTree
from tests.unit.cache.test_tree import FULL, WINDOW, a_tree, count, found, said


def test_what_was_unused_the_longest_goes_first():
    tree = a_tree(FULL)
    for first in (0, 100, 200):
        said(tree, count(first, 8))
    assert found(tree, [*count(0, 8), 9]) == 8
    assert tree.evict(20) == 20
    assert [found(tree, [*count(first, 8), 9]) for first in (0, 100, 200)] == [8, 0, 8]
    assert tree.evict(5) == 10, "whole pages"
    assert [found(tree, [*count(first, 8), 9]) for first in (0, 100, 200)] == [4, 0, 8], "an end before its beginning"


def test_what_several_begin_with_goes_last():
    tree = a_tree(FULL)
    for first in (100, 200):
        said(tree, [*count(0, 8), *count(first, 4)])
    tree.evict(20)
    assert found(tree, count(0, 12)) == 8


def test_what_somebody_runs_on_stays():
    tree = a_tree(FULL)
    said(tree, count(0, 8))
    said(tree, count(100, 8))
    hit = tree.match(count(0, 9), 8)
    assert tree.idle_bytes == 20
    assert tree.evict(1000, everybody=True) == 20
    check_all(tree, [hit.tables])
    hit.tables.release()
    assert found(tree, count(0, 9)) == 8


def test_nothing_is_evicted_for_nothing():
    tree = a_tree(FULL)
    said(tree, count(0, 8))
    assert tree.evict(0) == tree.evict(-10) == 0
    assert tree.bytes == 20


def test_no_more_is_kept_than_the_limit():
    tree = a_tree(FULL, limit=60)
    for first in range(0, 1000, 100):
        said(tree, count(first, 11))
        assert tree.idle_bytes <= 60
    assert [found(tree, [*count(first, 11), 9]) for first in (700, 800, 900)] == [0, 11, 11]
    assert tree.statistics.evicted.nodes == 24


def test_a_burst_of_others_does_not_push_out_the_session_that_went_on_last():
    tree = a_tree(FULL, limit=100)
    said(tree, count(0, 14))
    said(tree, count(0, 22))  # its second turn
    for first in range(100, 1000, 100):
        said(tree, count(first, 12))
        assert tree.idle_bytes <= 100
    assert found(tree, count(0, 30)) == 22


def test_of_two_sessions_the_one_that_went_on_last_stays():
    tree = a_tree(FULL, limit=100)
    for first, length in ((0, 14), (100, 14), (0, 22), (100, 22)):
        said(tree, count(first, length))
    for first in range(200, 1000, 100):
        said(tree, count(first, 12))
    assert [found(tree, count(first, 30)) for first in (0, 100)] == [0, 22]


def test_a_session_that_does_not_fit_goes_like_everybody():
    tree = a_tree(FULL, limit=40)
    said(tree, count(0, 14))
    said(tree, count(0, 22))
    assert tree.idle_bytes <= 40
    assert found(tree, count(0, 30)) == 16, "its end"


def test_the_session_goes_when_everybody_must():
    tree = a_tree(FULL)
    said(tree, count(0, 14))
    said(tree, count(0, 22))
    assert tree.evict(1000) == 0
    assert tree.evict(1000, everybody=True) == 60
    assert tree.bytes == 0


def test_a_pin_stays():
    tree = a_tree(FULL, limit=120)
    said(tree, count(0, 10))
    assert tree.pin(count(0, 10)) == 10
    for first in range(100, 2000, 100):
        said(tree, count(first, 12))
    assert found(tree, count(0, 20)) == 10
    tree.unpin(count(0, 10))
    for first in range(100, 2000, 100):
        said(tree, count(first, 12))
    assert found(tree, count(0, 20)) == 0


def test_the_oldest_pin_yields():
    tree = a_tree(FULL, limit=240)
    for first in (0, 100, 200):
        said(tree, count(first, 12))
        assert tree.pin(count(first, 12)) == 12
    assert tree.statistics.pinned_bytes == 60
    assert tree.statistics.evicted.pins == 1
    tree.evict(1000)
    assert [found(tree, count(first, 20)) for first in (0, 100, 200)] == [0, 12, 12]
    assert tree.pin(count(100, 12)) == 12, "again: it is the newest now"
    said(tree, count(0, 12))
    tree.pin(count(0, 12))
    tree.evict(1000)
    assert [found(tree, count(first, 20)) for first in (0, 100, 200)] == [12, 12, 0]


def test_more_than_may_be_pinned_is_not_and_what_is_not_there_neither():
    tree = a_tree(FULL, limit=100)
    said(tree, count(0, 12))
    assert tree.pin(count(0, 12)) == 0
    assert tree.pin(count(50, 12)) == 0
    assert tree.statistics.pinned_bytes == 0
    check_all(tree, [])


def test_a_pinned_part_of_a_page_stays_beside_a_longer_one():
    tree = a_tree(FULL)
    said(tree, count(0, 10))
    tree.pin(count(0, 10))
    said(tree, count(0, 14))
    for length in (10, 14):
        said(tree, count(100, length))  # the session now
    tree.evict(1000)
    assert tree.statistics.nodes == 3 + 4
    assert found(tree, [*count(0, 10), 99, 98]) == 10
    tree.unpin(count(0, 10))
    check_all(tree, [])


def test_a_window_that_no_end_sees_has_a_quota():
    tree = a_tree(FULL, WINDOW, limit=400)
    said(tree, count(0, 82))
    assert tree.statistics.evicted.windows == 18 - 10, "a quarter of the limit is ten pages"
    assert found(tree, count(0, 90)) == 82


def test_states_have_a_quota_and_take_the_tail_that_only_they_served():
    tree = PrefixTree(4, [(FULL, PageIds(4, 1))], True, TreeLimits(50))
    said(tree, count(0, 16), states=(8, 16))
    said(tree, count(100, 16), states=(8, 16))
    counted = tree.statistics
    assert counted.snapshot_bytes == 24, "half of the limit, at eight bytes a state"
    assert counted.evicted.snapshots == 1
    assert found(tree, count(0, 20)) == 16
    tree.evict(8)
    assert tree.statistics.nodes == 6, "nobody goes on from the end of the second"
    assert [found(tree, count(first, 20)) for first in (0, 100)] == [16, 8]


def test_states_of_those_who_run_can_go():
    tree = a_tree(FULL, states=True)
    said(tree, count(0, 8), states=(8,))
    hit = tree.match(count(0, 9), 8)
    assert tree.evict(1000) == 8
    check_all(tree, [hit.tables])
    assert tree.statistics.nodes == 2, "their pages stay"


def test_a_scope_without_anything_is_forgotten():
    tree = a_tree(FULL)
    for scope in range(5):
        said(tree, count(0, 8), scope=scope)
    tree.evict(1000)
    assert tree.scopes == 0
