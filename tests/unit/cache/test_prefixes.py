"""As an engine sees it: who comes finds what others have read; who ends leaves it; what must go goes."""

from __future__ import annotations

from dataclasses import dataclass

from mlxrun.cache.check import check_all
from mlxrun.cache.prefixes import SharedPrefixes
from mlxrun.cache.table import Tables
from mlxrun.cache.tree import Hit
from tests.unit.cache.paged_fake import State
from tests.unit.cache.test_tree import FULL, a_tree, count


@dataclass
class Memory:
    """Of a model with states that keep nothing."""

    tables: Tables
    length: int
    states: bool

    def snapshot(self) -> State | None:
        return State(self.length, 0) if self.states else None

    def release(self) -> None:
        self.tables.release()
        self.length = 0

    def run(self, length: int) -> None:
        self.tables.grow(length)
        self.length = length


def prefixes(states: bool = False, limit: int = 1 << 20) -> SharedPrefixes[Memory]:
    def begin(hit: Hit, prompt: int) -> Memory:
        assert (hit.snapshot is not None) == (states and hit.length > 0)
        return Memory(hit.tables, hit.length, states)

    return SharedPrefixes(a_tree(FULL, states=states, limit=limit), begin)


def test_who_runs_shares_and_who_ends_leaves():
    kept = prefixes()
    one, cached = kept.memory_for(count(0, 20))
    assert (cached, one.length) == (0, 0)
    one.run(10)
    kept.share(count(0, 20), one)
    other, cached = kept.memory_for(count(0, 20))
    assert cached == other.length == 8
    one.run(20)
    kept.keep(count(0, 19), one)
    assert (one.length, kept.bytes) == (0, 3 * 10), "two of its pages somebody runs on"
    check_all(kept.tree, [other.tables])
    assert kept.memory_for(count(0, 30))[1] == 19, "the last token was never read"


def test_what_was_launched_and_not_read_is_not_shared():
    kept = prefixes()
    one, _ = kept.memory_for(count(0, 6))
    one.run(9)
    kept.share(count(0, 6), one)
    assert (one.tables.length, one.tables.end) == (6, 9)
    assert kept.memory_for(count(0, 20))[1] == 4


def test_states_are_shared_where_that_is_said():
    kept = prefixes(states=True)
    one, _ = kept.memory_for(count(0, 20))
    one.run(6)
    kept.share(count(0, 20), one)
    assert kept.memory_for(count(0, 20))[1] == 0
    kept.share(count(0, 20), one, state=True)
    assert kept.memory_for(count(0, 20))[1] == 6
    one.run(15)
    kept.keep(count(0, 20), one)
    assert kept.memory_for(count(0, 20))[1] == 15


def test_what_is_told():
    kept = prefixes()
    one, _ = kept.memory_for(count(0, 20))
    one.run(12)
    kept.share(count(0, 20), one)
    kept.memory_for(count(0, 20))[0].release()
    told = kept.told
    assert (told["pages_full"], told["prefix_nodes"], told["prefix_bytes"], told["prefix_idle_bytes"]) == (3, 3, 30, 0)
    assert (told["prefix_asked"], told["prefix_hits"], told["prefix_tokens_matched"]) == (2, 1, 12)
    one.release()
    kept.shrink(10)
    assert (kept.told["prefix_evicted_nodes"], kept.told["prefix_idle_bytes"]) == (1, 20)


def test_scopes_share_nothing():
    kept = prefixes()
    one, _ = kept.memory_for(count(0, 20), "key")
    one.run(12)
    kept.share(count(0, 20), one, "key")
    assert [kept.memory_for(count(0, 20), scope)[1] for scope in ("key", None, "other")] == [12, 0, 0]


def test_no_more_is_kept_than_the_limit_and_what_must_go_goes():
    kept = prefixes(limit=60)
    for first in range(0, 500, 100):
        one, _ = kept.memory_for(count(first, 16))
        one.run(16)
        kept.keep(count(first, 16), one)
        assert kept.bytes <= 60
    for length in (20, 24):
        one, _ = kept.memory_for(count(400, length))
        one.run(length)
        kept.keep(count(400, length), one)
    assert kept.bytes == 60
    kept.shrink(15)
    assert kept.bytes == 40, "the session that went on last, too, where nothing else is left"
    kept.clear()
    assert kept.bytes == 0
    check_all(kept.tree, [])
