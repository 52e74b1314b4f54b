"""Whatever comes, goes, forks, is taken back or evicted: everybody says what he would say alone, and all is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.cache.check import check_all
from mlxrun.cache.evict import TreeLimits
from mlxrun.cache.pages import OutOfPages, PageIds
from mlxrun.cache.table import Group, Tables
from mlxrun.cache.tree import PrefixTree
from tests.unit.cache.paged_fake import VOCAB, Row, Store, alone, check_tokens

FULL, WINDOW, CHUNK = Group("full"), Group("window", reach=8), Group("chunk", chunk=8)
KINDS = {
    "dense": ([FULL], False),
    "window": ([FULL, WINDOW], False),
    "only windows": ([WINDOW], False),
    "chunk": ([FULL, CHUNK], False),
    "hybrid": ([FULL], True),
    "recurrent": ([], True),
    "all": ([FULL, WINDOW, CHUNK], True),
}
ACTIONS = (
    *("arrive", "arrive", "again", "again", "run", "run", "run", "run", "run", "share", "share", "keep state"),
    *("end", "end", "fork", "rewind", "cancel", "evict", "pin"),
)
LONGEST = 60
# prompts that begin alike, at every length up to some pages
prompts = st.builds(
    lambda length, changed, last: [*((i // 3 + (i >= changed)) % VOCAB for i in range(length)), last],
    st.integers(0, 40),
    st.integers(8, 40),
    st.integers(0, VOCAB - 1),
)
schedules = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.integers(0, 40), prompts), max_size=70)


class House:
    """Rows, a tree and a store; `do` is one thing that happens to them, and everything is checked after it."""

    def __init__(self, kind: str, size: int, capacity: int | None, limit: int) -> None:
        self.kinds, self.states = KINDS[kind]
        groups = [(group, PageIds(size, 4 * size, capacity)) for group in self.kinds]
        self.store = Store(groups)
        self.tree = PrefixTree(size, groups, self.states, TreeLimits(limit * size))
        self.rows: list[tuple[Row, int, int]] = []  # with the length of its prompt, and its scope
        self.past: list[list[int]] = []
        self.guests: list[Tables] = []  # of nobody in a row

    def do(self, action: str, which: int, amount: int, prompt: list[int]) -> None:
        if action == "arrive":
            self.arrive(prompt, which == 0)
        elif action == "again" and self.past:
            said = self.past[which % len(self.past)]
            self.arrive([*said[: LONGEST if amount % 2 else amount], *prompt[-3:]], False)
        elif action == "evict":
            self.tree.evict(amount * 2 * self.tree.size, everybody=amount == 40)
        elif self.rows:
            self.change(action, which % len(self.rows), which, amount)
        self.check()

    def arrive(self, prompt: list[int], scope: int) -> None:
        hit = self.tree.match(prompt, len(prompt) - 1, scope)
        assert hit.length <= hit.known < len(prompt)
        assert not self.states or hit.length == 0 or hit.snapshot.length == hit.length
        self.rows.append((Row(self.store, prompt, hit, self.states), len(prompt), scope))

    def change(self, action: str, index: int, which: int, amount: int) -> None:
        row, prompt, scope = self.rows[index]
        match action:
            case "run":
                try:
                    row.run(min(row.unread, 1 + amount), read=which < 5)
                except OutOfPages:
                    self.tree.evict(80 * self.tree.size, everybody=True)
            case "share":
                self.tree.insert(row.tokens, row.tables, row.snapshots, scope)
                row.tables.forget()
            case "keep state":
                row.keep_state()
            case "fork":
                self.rows.append((row.fork(), prompt, scope))
            case "rewind":
                self.rewind(row, prompt, amount)
            case "pin":
                self.tree.pin(row.tokens[:amount], scope)
            case "end":
                row.keep_state()
                self.tree.insert(row.tokens, row.tables, row.snapshots, scope, ended=True)
                self.leave(index)
                self.tree.trim()
                self.check_limit()
            case "cancel":
                self.leave(index)

    def check_limit(self) -> None:
        kept = any(node.pins or node in self.tree.eviction.session for node in self.tree.nodes())
        assert kept or self.rows or self.tree.idle_bytes <= self.tree.eviction.limits.bytes

    def rewind(self, row: Row, prompt: int, amount: int) -> None:
        """As after drafts that were wrong: what was said is said again."""
        length = max(prompt - 1, row.tables.end - amount % 9)
        before = row.tables.end
        if row.states or length > before:
            return
        if row.tables.rewind(length):
            del row.tokens[length + 1 :]
        else:
            assert row.tables.end == before
            assert row.tables.reusable(length) != length

    def leave(self, index: int) -> None:
        row, _, _ = self.rows.pop(index)
        self.past.append(row.tokens)
        row.tables.release()

    def check(self) -> None:
        check_all(self.tree, [*(row.tables for row, _, _ in self.rows), *self.guests])
        check_tokens(self.tree, self.store)
        for row, prompt, _ in self.rows:
            wanted = alone(self.kinds, self.states, row.tokens[:prompt], len(row.tokens) - prompt)
            assert row.tokens == wanted


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(schedules, st.sampled_from([1, 4, 16]), st.sampled_from([None, 12]), st.sampled_from([0, 60, 4000]))
def test_everybody_says_what_he_would_say_alone(kind, schedule, size, capacity, limit):
    house = House(kind, size, capacity, limit)
    for action in schedule:
        house.do(*action)
    for index in range(len(house.rows)):
        house.do("end", 0, index, [])
    house.tree.evict(1 << 40, everybody=True)
    assert house.tree.bytes == 0
    assert all(pages.used == 0 for _, pages in house.tree.groups)
    assert house.tree.statistics.nodes == 0
