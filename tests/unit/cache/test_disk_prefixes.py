"""From the tree to the disk and back: after a restart everybody says what he would say alone, and fewer tokens run."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.cache.disk import DiskTier
from mlxrun.cache.disk_prefixes import DiskPrefixes
from mlxrun.cache.files import PageLayout
from mlxrun.cache.prefixes import SharedPrefixes
from mlxrun.cache.restore import MISMATCH, PageBytes, Recheck, Restore
from mlxrun.cache.table import Group
from tests.unit.cache.paged_fake import State, alone, check_tokens, state_bytes, state_of
from tests.unit.cache.test_paged_schedules import ACTIONS, KINDS, House, prompts

FULL = Group("full")


class Lodge(House):
    """A house with a folder: what another has left there is found again."""

    def __init__(
        self, folder: Path, kind: str, size: int, capacity: int | None = None, limit: int = 4000, **how
    ) -> None:
        super().__init__(kind, size, capacity, limit)
        groups = tuple((group.name, pages.page_bytes) for group, pages in self.tree.groups)
        layout = PageLayout("ab" * 16, size, how.get("block", 3), groups)
        self.tier = DiskTier(folder, layout, self.kinds, self.states, how.get("most", 1 << 20), 0)
        self.tier.settle()
        recheck: Recheck | None = how.get("recheck")
        store = PageBytes(self.store.read, self.store.put, state_bytes, state_of, recheck)
        self.disk = DiskPrefixes(self.tree, self.tier, store)

    def restored(self, prompt: list[int], scope: int = False, rate: float = 0.0) -> int:
        """Before somebody arrives with this: how much of it came from the disk."""
        restore = self.disk.restore(prompt, len(prompt) - 1, scope, rate)
        if restore is None:
            return 0
        self.finish(restore)
        return restore.length

    def finish(self, restore: Restore) -> None:
        self.guests = [restore.tables]
        self.check()
        while not restore.advance():
            self.tier.settle()
        self.guests = []
        self.check()

    def said(self, prompt: list[int], *, states: tuple[int, ...] = (), count: int = 3) -> list[int]:
        """Somebody comes, is answered and goes; what he said is what he would have said alone."""
        self.arrive(prompt, False)
        row = self.rows[-1][0]
        for at in states:
            row.run(at - row.tables.end)
            row.keep_state()
        while len(row.tokens) < len(prompt) + count:
            row.run(row.unread)
        assert row.tokens == alone(self.kinds, self.states, prompt, count)
        self.do("end", len(self.rows) - 1, 0, [])
        return row.tokens

    def close(self) -> None:
        self.disk.write_all()
        self.tier.close()


def ids(tokens: list[int]) -> bytes:
    return array("i", tokens).tobytes()


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mlxrun.cache.files.os.fsync", lambda file: None)
        yield


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Lodge]]:
    houses: list[Lodge] = []

    def open_house(kind: str = "dense", size: int = 4, **how) -> Lodge:
        for house in houses:
            house.close()
        houses[:] = [Lodge(tmp_path / "prefixes", kind, size, **how)]
        return houses[0]

    yield open_house
    for house in houses:
        house.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, 16])
def test_after_a_restart_it_goes_on_where_it_ended(opened, kind: str, size: int):
    prompt = [n % 7 for n in range(50)]
    tokens = opened(kind, size).said(prompt, states=(48,))
    house = opened(kind, size)
    assert house.tree.bytes == 0
    turn = [*tokens, 3, 1]
    assert house.restored(turn) == len(tokens) - 1, "all that went through the model"
    hit = house.tree.match(turn, len(turn) - 1, False)
    assert hit.length == len(tokens) - 1
    hit.tables.release()
    house.said(turn)
    assert house.disk.counts.tokens == len(tokens) - 1


def test_what_begins_alike_is_restored_to_the_token(opened):
    opened().said(list(range(100, 150)))
    house = opened()
    assert house.restored([*range(100, 130), 1, 2]) == 30
    assert house.tree.match([*range(100, 130), 1, 2], 31, False).length == 30
    assert house.restored([1, *range(100, 130)]) == 0
    assert house.restored(list(range(100, 130)), scope=True) == 0


def test_what_memory_has_is_not_read_again(opened):
    tokens = opened().said(list(range(100, 150)))
    house = opened()
    house.restored(list(range(100, 121)))
    first = house.tier.statistics.bytes_read
    house.restored([*tokens, 1])
    assert first == 5 * 16
    assert house.tier.statistics.bytes_read == first + 8 * 16
    assert house.restored([*tokens, 1]) == 0


def test_what_leaves_the_tree_after_a_hit_is_written(opened):
    house = opened()
    tokens = house.said(list(range(100, 120)))
    house.said(list(range(200, 220)))
    house.said([*tokens, 1])
    house.tree.evict(1 << 20, everybody=True)
    house.tier.settle()
    assert house.tree.bytes == 0
    assert house.restored([*tokens, 2]) == len(tokens)
    assert house.restored(list(range(200, 220))) == 0, "nobody came back for it"


def test_what_only_was_asked_for_is_written_as_far_as_that(opened):
    house = opened()
    house.said(list(range(100, 120)))
    house.said([*range(100, 117), 7, 8])
    for first in (200, 200):
        house.said(list(range(first, first + 9)))
    house.tree.evict(1 << 20, everybody=True)
    house.tier.settle()
    assert house.restored([*range(100, 120), 1]) == 20
    assert house.restored([*range(200, 206), 1]) == 6


def test_an_end_is_found_on_disk_though_its_beginning_never_left_memory(opened):
    house = opened(block=2)
    tokens = house.said(list(range(100, 140)))
    house.said([*tokens, 1])
    house.tree.evict(4 * 16, everybody=True)
    house.tier.settle()
    left = house.tree.length(ids(tokens), False)
    assert 0 < left < len(tokens) - 4
    assert house.restored([*tokens, 1, 2]) == len(tokens) + 1
    read = house.tier.statistics.bytes_read
    assert read <= 5 * 16, "the beginning was here"


def test_what_the_disk_let_go_is_written_again_before_what_follows_it(opened):
    house = opened(block=2)
    tokens = house.said(list(range(100, 120)))
    house.disk.write_all()
    house.tier.drop(house.tier.find(ids(tokens), False).segments[0], "test")
    assert house.tier.statistics.segments == 0
    house.said([*tokens, 1])
    house.disk.write_all()
    assert house.tier.find(ids([*tokens, 1, 2]), False).length == len(tokens) + 1


def test_what_was_pinned_is_written(opened):
    house = opened()
    tokens = house.said(list(range(100, 120)))
    assert house.tree.pin(tokens, False) == len(tokens) - 1
    house.tree.evict(1 << 20)
    assert house.tier.statistics.written == 0
    house.disk.write_all()
    house.tree.evict(1 << 20, everybody=True)
    assert house.restored([*tokens, 2]) == len(tokens) - 1


def test_what_is_on_disk_is_not_written_again(opened):
    tokens = opened().said(list(range(100, 120)))
    house = opened()
    house.restored([*tokens, 1])
    house.tree.match([*tokens, 1], len(tokens), False).tables.release()
    house.tree.evict(1 << 20, everybody=True)
    house.disk.write_all()
    assert house.tier.statistics.written == 0
    assert house.restored([*tokens, 1]) == len(tokens) - 1


def test_where_computing_is_quicker_nothing_is_read(opened):
    opened().said(list(range(100, 150)))
    house = opened()
    assert house.restored(list(range(100, 150)), rate=1e12) == 0
    assert house.disk.counts.slower == 1
    assert house.restored(list(range(100, 150)), rate=1.0) == 49


def test_where_pages_lack_nothing_is_restored_and_all_stands(opened):
    opened().said(list(range(100, 150)))
    house = opened(capacity=8)
    house.said(list(range(200, 210)))
    assert house.restored(list(range(100, 150))) == 0
    assert house.disk.counts.no_room == 1
    assert house.restored(list(range(100, 125))) == 24, "others were evicted for it"
    assert house.disk.counts.restored == 1


def test_what_lies_broken_on_disk_is_computed(opened, tmp_path):
    prompt = list(range(100, 150))
    opened().said(prompt)
    house = opened()
    first = house.tier.find(ids(prompt), False).segments[0]
    file = tmp_path / "prefixes" / f"{first.name}.pages"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert house.restored(prompt) == 0
    assert house.disk.counts.lost == 1
    assert set(house.tier.statistics.dropped) == {"a checksum is wrong"}
    assert house.tree.groups[0][1].used == 0
    house.said(prompt)


def test_what_is_computed_again_and_differs_is_dropped(opened):
    prompt = list(range(100, 150))
    opened().said(prompt)
    house = opened(recheck=lambda tokens, tables, states, scope: False)
    assert house.restored(prompt) == 0
    assert house.disk.counts.mismatches == 1
    assert set(house.tier.statistics.dropped) == {MISMATCH}
    assert house.tier.statistics.segments == 0
    assert house.tree.groups[0][1].used == 0


def test_what_cannot_be_computed_again_is_believed_and_counted(opened):
    prompt = list(range(100, 150))
    opened().said(prompt)
    house = opened(recheck=lambda tokens, tables, states, scope: None)
    assert house.restored(prompt) == 49
    assert (house.disk.counts.unchecked, house.disk.counts.mismatches) == (1, 0)


def test_who_computes_again_is_handed_what_was_restored(opened):
    seen: list[tuple] = []
    prompt = list(range(100, 150))

    def recheck(tokens, tables, states, scope) -> bool:
        seen.append((list(tokens), tables.length, [(state.length, state.value) for state in states]))
        return True

    opened("hybrid").said(prompt, states=(16, 40), count=1)
    house = opened("hybrid", recheck=recheck)
    assert house.restored([*prompt[:45], 1, 2]) == 40
    tokens, length, states = seen[0]
    assert (tokens, length) == (prompt[:40], 40)
    assert [length for length, _ in states] == [16, 40]


def test_a_restore_that_nobody_waits_for_gives_its_pages_back(opened):
    opened().said(list(range(100, 150)))
    house = opened()
    restore = house.disk.restore(list(range(100, 150)), 49, False)
    assert house.tree.groups[0][1].used == 13
    restore.cancel()
    assert restore.advance()
    assert house.tree.groups[0][1].used == 0
    house.check()


def test_others_go_on_while_something_is_restored(opened):
    opened().said(list(range(100, 150)))
    house = opened()
    restore = house.disk.restore(list(range(100, 150)), 49, False)
    house.guests = [restore.tables]
    house.said(list(range(100, 150)))
    house.said(list(range(200, 220)))
    house.tree.evict(1 << 20, everybody=True)
    house.finish(restore)
    house.check()
    assert restore.length == 49
    assert house.tree.match(list(range(100, 150)), 49, False).length == 49


def test_who_comes_waits_for_what_is_on_disk(opened):
    tokens = opened().said(list(range(100, 150)))
    house = opened()
    kept = SharedPrefixes(house.tree, lambda hit, prompt: hit)
    kept.disk = house.disk
    assert not kept.ready([*tokens, 1], False)
    assert kept.ready([7, 8], False), "others need not wait"
    while not kept.ready([*tokens, 1], False, idle=True):
        pass
    hit, cached = kept.memory_for([*tokens, 1], False)
    assert cached == len(tokens) - 1
    hit.tables.release()
    assert (kept.told["disk_tokens"], kept.told["disk_dropped"]) == (cached, 0)
    assert kept.told["disk_bytes_read"] == 13 * 16
    house.tree.clear()
    assert not kept.ready([*tokens, 1], False)
    kept.clear()
    assert house.tree.groups[0][1].used == 0
    assert kept.ready([7, 8], False)


def test_nobody_waits_for_the_disk_where_computing_is_quicker(opened):
    tokens = opened().said(list(range(100, 150)))
    house = opened()
    kept = SharedPrefixes(house.tree, lambda hit, prompt: hit)
    kept.disk = house.disk
    assert kept.ready([*tokens, 1], False, rate=1e9)
    assert (kept.told["disk_slower"], kept.told["disk_bytes_read"]) == (1, 0)
    assert not kept.ready([*tokens, 1], False, rate=1e-9)


def test_who_comes_early_waits_until_it_is_known_what_is_there(opened):
    tokens = opened().said(list(range(100, 150)))
    house = opened()
    looked: Future[None] = Future()
    house.tier._looked = looked
    kept = SharedPrefixes(house.tree, lambda hit, prompt: hit)
    kept.disk = house.disk
    assert not kept.ready([*tokens, 1], False)
    assert not kept.ready([*tokens, 1], False, idle=True)
    assert house.tier.statistics.bytes_read == 0
    looked.set_result(None)
    while not kept.ready([*tokens, 1], False, idle=True):
        pass
    assert house.disk.counts.tokens == len(tokens) - 1


def test_states_that_are_none_are_lost(opened):
    def none_of(length: int, content: bytes) -> State:
        raise ValueError("These are no states.")

    prompt = list(range(100, 150))
    opened("hybrid").said(prompt, states=(40,), count=1)
    house = opened("hybrid")
    house.disk._store = replace(house.disk._store, state_of=none_of)
    assert house.restored(prompt) == 0
    assert house.disk.counts.lost == 1
    assert set(house.tier.statistics.dropped) == {"These are no states."}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(st.data(), st.sampled_from([1, 4, 16]), st.sampled_from([None, 12]), st.sampled_from([1, 3]))
def test_everybody_says_what_he_would_say_alone_after_any_restart(tmp_path_factory, kind, data, size, capacity, block):
    folder = tmp_path_factory.mktemp("tier") / "prefixes"
    past: list[list[int]] = []
    steps = st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.integers(0, 40), prompts), min_size=5, max_size=25
    )
    for _ in range(3):
        house = Lodge(folder, kind, size, capacity, limit=60, block=block)
        house.past = past
        for action, which, amount, prompt in data.draw(steps):
            if action in ("arrive", "again") and which % 2:
                said = past[amount % len(past)] if past else []
                house.restored([*said[:amount], *prompt], scope=False)
            house.do(action, which, amount, prompt)
        for row, _, _ in house.rows:
            row.tables.release()
        house.rows.clear()
        house.disk.write_all()
        check_tokens(house.tree, house.store)
        house.tier.close()
        assert house.tier.statistics.dropped == {}
