"""A store small enough to read: a page holds the ids that were written, and what comes next hashes all that is seen.

So a page too many, too few, overwritten or of somebody else shows in the next token. What a recurrent layer would know
is a running hash, and a snapshot is its value.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from mlxrun.cache.node import Snapshot
from mlxrun.cache.pages import PageIds
from mlxrun.cache.table import GONE, Copy, Group, Tables
from mlxrun.cache.tree import Hit, PrefixTree

VOCAB = 5
EMPTY = -7


@dataclass(frozen=True)
class State:
    length: int
    value: int
    bytes: int = 8


def step(state: int, token: int) -> int:
    return hash((state, token)) & 0xFFFF


class Store:
    """What was written, by group, page and slot."""

    def __init__(self, groups: list[tuple[Group, PageIds]]) -> None:
        self.groups, self.size = groups, groups[0][1].size if groups else 0
        self.slots: dict[tuple[int, int, int], int] = {}

    def copy(self, copy: Copy) -> None:
        for slot in range(self.size):
            self.slots[copy.group, copy.target, slot] = self.slots.get((copy.group, copy.source, slot), EMPTY)

    def write(self, tables: Tables, position: int, token: int) -> None:
        for index in range(len(self.groups)):
            page = tables.row(index)[position // tables.size]
            self.slots[index, page, position % tables.size] = token

    def read(self, group: int, page: int) -> bytes:
        return array("i", [self.slots.get((group, page, slot), EMPTY) for slot in range(self.size)]).tobytes()

    def put(self, group: int, page: int, content: bytes) -> None:
        for slot, token in enumerate(array("i", content)):
            self.slots[group, page, slot] = token

    def seen(self, tables: Tables, position: int) -> list[list[int]]:
        """What a query at `position` reads, group by group."""
        found = []
        for index, (group, _) in enumerate(self.groups):
            row = tables.row(index)
            places = range(group.oldest(position), position + 1)
            assert all(row[place // tables.size] != GONE for place in places)
            found.append([self.slots[index, row[place // tables.size], place % tables.size] for place in places])
        return found


def state_bytes(state: Snapshot) -> bytes:
    assert isinstance(state, State)
    return state.value.to_bytes(8, "little")


def state_of(length: int, content: bytes) -> State:
    return State(length, int.from_bytes(content, "little"))


class Row:
    """One sequence: what it said must be what it would have said alone."""

    def __init__(self, store: Store, tokens: list[int], hit: Hit, states: bool) -> None:
        self.store, self.tokens, self.tables = store, list(tokens), hit.tables
        self.states, self.state = states, hit.snapshot.value if hit.snapshot is not None else 0
        self.snapshots: list[State] = []

    @property
    def unread(self) -> int:
        """Tokens that did not go through the model yet."""
        return len(self.tokens) - self.tables.end

    def run(self, count: int, read: bool = True) -> None:
        """So many of its tokens through the model; where those are all, it says the next.

        What was launched before is read by then; this only if `read`.
        """
        start = self.tables.end
        self.tables.commit(start)
        for copy in self.tables.grow(start + count):
            self.store.copy(copy)
        for position in range(start, start + count):
            self.store.write(self.tables, position, self.tokens[position])
            self.state = step(self.state, self.tokens[position])
            seen = self.store.seen(self.tables, position)
        if read:
            self.tables.commit(start + count)
        if self.tables.end == len(self.tokens):
            self.tokens.append(next_token(seen, self.state if self.states else 0))

    def keep_state(self) -> None:
        if self.states and self.tables.end:
            self.snapshots.append(State(self.tables.end, self.state))

    def fork(self) -> Row:
        other = Row(self.store, self.tokens, Hit(self.tables.end, self.tables.fork()), self.states)
        other.state = self.state
        return other


def next_token(seen: list[list[int]], state: int) -> int:
    return hash((tuple(map(tuple, seen)), state)) % VOCAB


def alone(groups: list[Group], states: bool, prompt: list[int], count: int) -> list[int]:
    """The tokens, and what a sequence without any neighbours says after them: in plain Python."""
    tokens, state = list(prompt), 0
    for token in prompt[:-1]:
        state = step(state, token)
    while len(tokens) < len(prompt) + count:
        position = len(tokens) - 1
        state = step(state, tokens[position])
        seen = [tokens[group.oldest(position) : position + 1] for group in groups]
        tokens.append(next_token(seen, state if states else 0))
    return tokens


def check_tokens(tree: PrefixTree, store: Store) -> None:
    """That every page of the tree holds the tokens of its node."""
    for node in tree.nodes():
        ids = memoryview(node.key).cast("i").tolist()
        for index, page in enumerate(node.pages):
            if page != GONE:
                held = [store.slots.get((index, page, slot)) for slot in range(len(ids))]
                assert held == ids, f"group {index}, page {page} holds {held}, and its node is for {ids}"
        if node.snapshot is not None:
            value = 0
            for before in node.path:
                for token in memoryview(before.key).cast("i"):
                    value = step(value, token)
            assert node.snapshot.value == value
