"""What of a prompt is found: to the token where everything is remembered, and where a window or a state allows it."""

from __future__ import annotations

import pytest

from mlxrun.cache.check import check_all
from mlxrun.cache.evict import TreeLimits
from mlxrun.cache.pages import PageIds
from mlxrun.cache.table import GONE, Copy, Group, Share, Tables
from mlxrun.cache.tree import Hit, PrefixTree
from tests.unit.cache.paged_fake import State

FULL, WINDOW, CHUNK = Group("full"), Group("window", reach=8), Group("chunk", chunk=8)


def a_tree(*groups: Group, states: bool = False, limit: int = 1 << 30) -> PrefixTree:
    return PrefixTree(4, [(group, PageIds(4, 10)) for group in groups], states, TreeLimits(limit))


def said(tree: PrefixTree, tokens: list[int], *, states: tuple[int, ...] = (), forget: bool = True, **how) -> Hit:
    """A request that ran through all of these, and ended there."""
    hit = tree.match(tokens, len(tokens) - 1, how.get("scope"))
    hit.tables.grow(len(tokens))
    hit.tables.commit(len(tokens))
    if forget:
        tree.insert(tokens, hit.tables, [State(at, 0) for at in states], **how)
        hit.tables.forget()
    tree.insert(tokens, hit.tables, [State(at, 0) for at in states], ended=True, **how)
    hit.tables.release()
    tree.trim()
    check_all(tree, [])
    return hit


def found(tree: PrefixTree, tokens: list[int], *running: Tables, most: int | None = None, scope: object = None) -> int:
    """How long a hit is. Nobody runs on it."""
    hit = tree.match(tokens, len(tokens) - 1 if most is None else most, scope)
    check_all(tree, [hit.tables, *running])
    hit.tables.release()
    return hit.length


def count(first: int, length: int) -> list[int]:
    return list(range(first, first + length))


def test_a_prompt_is_found_to_the_token():
    tree = a_tree(FULL)
    said(tree, count(0, 11))
    assert found(tree, count(0, 20)) == 11
    assert found(tree, [*count(0, 10), 99, 98]) == 10, "in a part of a page"
    assert found(tree, [*count(0, 6), 99, 98]) == 6, "in a page"
    assert found(tree, [*count(0, 8), 99, 98]) == 8
    assert found(tree, count(1, 11)) == 0


def test_at_least_one_token_runs_where_its_asker_says_so():
    tree = a_tree(FULL)
    said(tree, count(0, 12))
    assert found(tree, count(0, 12)) == 11
    assert found(tree, count(0, 12), most=12) == 12
    assert found(tree, count(0, 12), most=0) == 0


def test_a_hit_is_copied_where_it_is_written_to():
    tree = a_tree(FULL)
    said(tree, count(0, 11))
    hit = tree.match([*count(0, 10), 99, 98], 11)
    assert hit.tables.bytes == Share(0, 30)
    assert hit.tables.grow(12) == [Copy(0, 2, 3)]
    assert hit.tables.bytes == Share(10, 20)
    check_all(tree, [hit.tables])


def test_who_may_not_share_finds_nothing():
    tree = a_tree(FULL)
    said(tree, count(0, 11), scope="one")
    assert [found(tree, count(0, 11), scope=scope) for scope in ("one", "other", None)] == [10, 0, 0]


def test_negative_and_large_ids_are_told_apart():
    tree = a_tree(FULL)
    said(tree, [256, 1, 65536, 2, 5])
    assert found(tree, [256, 1, 65536, 2, 9]) == 4
    assert found(tree, [256, 1, 65537, 2, 5]) == 2
    assert found(tree, [0, 1, 65536, 2, 5]) == 0
    assert found(tree, [512, 1, 65536, 2, 5]) == 0


def test_who_still_runs_shares_what_was_read():
    tree = a_tree(FULL)
    hit = tree.match(count(0, 20), 19)
    hit.tables.grow(12)
    hit.tables.commit(9)
    tree.insert(count(0, 20), hit.tables)
    assert found(tree, count(0, 20), hit.tables) == 8, "pages that are full and read"
    hit.tables.commit(12)
    tree.insert(count(0, 20), hit.tables)
    tree.insert(count(0, 20), hit.tables)
    assert found(tree, count(0, 20), hit.tables) == 12
    assert tree.idle_bytes == 0
    check_all(tree, [hit.tables])


def test_where_nothing_new_was_read_nothing_is_looked_up(monkeypatch):
    tree = a_tree(FULL)
    hit = tree.match(count(0, 20), 19)
    hit.tables.grow(13)
    hit.tables.commit(11)
    tree.insert(count(0, 20), hit.tables)
    with monkeypatch.context() as patched:
        patched.delattr(PrefixTree, "_insert_pages")
        tree.insert(count(0, 20), hit.tables)
    assert hit.tables.rewind(7)
    hit.tables.grow(12)
    hit.tables.commit(12)
    tree.insert([*count(0, 7), *count(50, 6)], hit.tables)
    assert found(tree, [*count(0, 7), *count(50, 6)], hit.tables) == 12
    fork = hit.tables.fork()
    assert fork.inserted == hit.tables.inserted == 3


def test_equal_pages_become_one():
    tree = a_tree(FULL)
    hits = [tree.match(count(0, 10), 9) for _ in range(3)]
    for hit in hits:
        hit.tables.grow(10)
        hit.tables.commit(10)
    assert tree.groups[0][1].used == 9
    for hit in hits:
        tree.insert(count(0, 10), hit.tables)
    check_all(tree, [hit.tables for hit in hits])
    assert tree.groups[0][1].used == 2 + 3
    assert tree.statistics.doubles == 4
    assert {tuple(hit.tables.row(0)[:2]) for hit in hits} == {(0, 1)}


def test_sixteen_on_one_document_hold_it_once():
    tree = a_tree(FULL)
    said(tree, count(0, 400))
    hits = [tree.match([*count(0, 400), 1000 + n, 7], 401) for n in range(16)]
    for hit in hits:
        hit.tables.grow(402)
        assert hit.tables.bytes.own <= 2 * 10
    assert tree.groups[0][1].used == 100 + 16


def test_a_part_of_a_page_goes_when_a_longer_one_comes():
    tree = a_tree(FULL)
    for length in (9, 10, 11, 12):
        said(tree, count(0, length))
    assert tree.statistics.nodes == 3
    said(tree, count(0, 10))
    assert tree.statistics.nodes == 3
    said(tree, [*count(0, 9), 99])
    assert tree.statistics.nodes == 4


@pytest.mark.parametrize("group", [WINDOW, CHUNK])
def test_a_window_is_found_where_its_last_pages_are(group: Group):
    tree = a_tree(FULL, group)
    said(tree, count(0, 42))
    hit = tree.match(count(0, 60), 59)
    assert hit.length == 42
    first = group.oldest(42) // 4
    assert list(hit.tables.row(1)[:first]) == [GONE] * first
    assert GONE not in hit.tables.row(1)[first:]
    hit.tables.release()
    check_all(tree, [])


def test_where_a_window_lost_its_pages_one_before_is_found():
    tree = a_tree(FULL, WINDOW)
    said(tree, count(0, 42))
    assert found(tree, [*count(0, 6), 99, 98]) == 6
    tree.evict(10)  # the first window page that no end sees and that was not just asked for
    assert [found(tree, [*count(0, n), 99, 98]) for n in (6, 14, 22)] == [6, 8, 22]
    tree.evict(10 * 4)
    assert [found(tree, [*count(0, n), 99, 98]) for n in (6, 14, 22)] == [0, 0, 22]
    tree.evict(10)
    assert found(tree, [*count(0, 22), 99, 98]) == 0
    assert found(tree, count(0, 60)) == 42
    assert tree.statistics.evicted.windows == 6
    assert tree.statistics.evicted.nodes == 0


def test_where_several_go_on_their_windows_stay():
    tree = a_tree(FULL, WINDOW)
    for last in (100, 200, 300):
        said(tree, [*count(0, 20), *count(last, 20)])
    tree.evict(10 * 12)
    assert tree.statistics.evicted.nodes == 0
    assert found(tree, [*count(0, 20), 400, 401]) == 20


def test_a_state_is_needed_at_the_very_length():
    tree = a_tree(FULL, states=True)
    said(tree, count(0, 30), states=(8, 13, 30))
    for length, begins in ((40, 30), (30, 13), (25, 13), (13, 8), (12, 8), (8, 0)):
        hit = tree.match(count(0, length), length - 1)
        assert (hit.length, hit.known) == (begins, min(length - 1, 30))
        assert hit.snapshot == (State(begins, 0) if begins else None)
        hit.tables.release()
    hit = tree.match([*count(0, 21), 99, 98], 22)
    assert (hit.length, hit.known) == (13, 21), "at 21 a state would serve both"


def test_a_state_at_a_part_of_a_page_stays_when_the_page_is_full():
    tree = a_tree(FULL, states=True)
    said(tree, count(0, 10), states=(10,))
    said(tree, count(0, 14), states=(14,))
    assert tree.groups[0][1].used == 4, "both begin with one page"
    assert found(tree, [*count(0, 10), 99, 98]) == 10
    assert found(tree, count(0, 20)) == 14


def test_a_state_at_a_part_of_a_page_that_is_there_needs_no_page():
    tree = a_tree(FULL, states=True)
    said(tree, count(0, 14), states=(14,))
    said(tree, count(0, 10), states=(10,))
    assert tree.groups[0][1].used == 4
    assert found(tree, [*count(0, 10), 99, 98]) == 10


def test_a_model_without_keys_goes_on_from_its_states():
    tree = a_tree(states=True)
    said(tree, count(0, 10), states=(6, 10))
    assert found(tree, count(0, 20)) == 10
    assert found(tree, count(0, 10)) == 6
    assert tree.bytes == 16


def test_without_keys_and_states_nothing_is_kept():
    tree = a_tree(states=True)
    hit = tree.match(count(0, 10), 9)
    hit.tables.grow(10)
    hit.tables.commit(10)
    tree.insert(count(0, 10), hit.tables)
    tree.insert(count(0, 10), hit.tables, ended=True)
    assert tree.statistics.nodes == 0
    tree.insert(count(0, 10), hit.tables, [State(5, 0)])
    assert tree.statistics.nodes == 2
    tree.evict(1)
    assert tree.statistics.nodes == 0


def test_what_was_asked_and_found_is_counted():
    tree = a_tree(FULL)
    said(tree, count(0, 11))
    found(tree, count(0, 20))
    found(tree, count(50, 20))
    counted = tree.statistics
    assert (counted.asked, counted.hits) == (3, 1)
    assert (counted.tokens_asked, counted.tokens_matched) == (10 + 19 + 19, 11)
    assert (counted.nodes, counted.bytes, counted.idle_bytes) == (3, 30, 30)


def test_pages_of_another_size_are_refused():
    with pytest.raises(ValueError, match="pages have 4 positions"):
        PrefixTree(4, [(FULL, PageIds(8, 1))], False, TreeLimits(1))


def test_who_runs_keeps_his_pages_when_all_is_cleared():
    tree = a_tree(FULL, WINDOW)
    said(tree, count(0, 11))
    hit = tree.match(count(0, 20), 19)
    tree.clear()
    check_all(tree, [hit.tables])
    assert tree.bytes == 0
    assert found(tree, count(0, 20), hit.tables) == 0
    assert hit.tables.bytes.own == 30 + 20, "of the window the last two pages"
