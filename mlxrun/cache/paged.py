"""What one sequence remembers where keys lie in pages: its table of pages, and the states of its recurrent layers.

Taking it back and having it twice cost nothing where all layers have keys: pages are shared, who writes first copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..contracts import HeardWindow
from ..ops.adapters import Adapter
from ..ops.paged import KeyPlace
from ..ops.span import Span
from ..spec import SideBySide
from .base import agreed
from .evict import TreeLimits
from .kinds import PAGE, SLACK, is_recurrent
from .prefixes import SharedPrefixes
from .recurrent import Recurrent, RecurrentState
from .snapshot_points import snapshot_points
from .store import PagedStore
from .table import Tables
from .tree import Hit, PrefixTree


class PagedLayer:
    """A layer's keys, of every sequence; and this one's state, where it has one too."""

    __slots__ = ("places", "state")

    def __init__(self, places: tuple[KeyPlace, ...], state: Recurrent | None = None) -> None:
        self.places, self.state = places, state

    def append(self, *rows: mx.array) -> Span:
        raise TypeError("these keys lie in pages, which a pass writes to")

    def read(self) -> tuple[mx.array, ...] | None:
        assert self.state is not None
        return self.state.read()

    def write(self, length: int, *state: mx.array) -> None:
        assert self.state is not None
        self.state.write(length, *state)


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The states of the recurrent layers after so many tokens, in arrays of their own."""

    length: int
    states: tuple[RecurrentState, ...]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for state in self.states for array in state.arrays or ())


class PagedSequence:
    points: Sequence[int] = ()  # lengths at which a pass should end, because a state there is worth keeping
    adapter: Adapter | None = None
    heard: HeardWindow | None = None

    def __init__(self, store: PagedStore, context: int, tables: Tables | None = None) -> None:
        self.store, self.context = store, context
        self.tables = Tables(store.groups) if tables is None else tables
        self.length = self.tables.end
        self._states: list[Recurrent] = []
        self.layers: Sequence[PagedLayer | Recurrent | None] = [
            self._layer(layer.mixer, places) for layer, places in zip(store.spec.layers, store.places, strict=True)
        ]

    def _layer(self, mixer: object, places: tuple[KeyPlace, ...]) -> PagedLayer | Recurrent | None:
        if not is_recurrent(mixer):
            return PagedLayer(places) if places else None
        state = Recurrent()
        self._states.append(state)
        return PagedLayer(places, state) if isinstance(mixer, SideBySide) else state

    def forget(self) -> None:
        """What no query will see any more, and is not worth keeping for a rewind; where the store forgets at all."""
        self.tables.commit(max(self.tables.length, self.length - SLACK))
        self.tables.forget()

    @property
    def bytes(self) -> int:
        """Its own, and what it shares with others."""
        return sum(self.tables.bytes) + self.state_bytes

    @property
    def state_bytes(self) -> int:
        return sum(state.bytes for state in self._states)

    def reusable(self, length: int) -> int:
        return agreed(min(length, self.length), [self.tables, *self._states])

    def rewind(self, length: int) -> bool:
        if length > self.length or self.reusable(length) != length:
            return False
        self.tables.rewind(length)
        for state in self._states:
            state.rewind(length)
        self.length = length
        return True

    def fork(self) -> PagedSequence:
        other = PagedSequence(self.store, self.context, self.tables.fork())
        other.restore([state.snapshot() for state in self._states])
        other.length, other.adapter, other.heard = self.length, self.adapter, self.heard
        return other

    def snapshot(self) -> StateSnapshot | None:
        """None: all its layers have keys."""
        if not self._states or not self.length:
            return None
        states = [state.snapshot() for state in self._states]
        copies = [RecurrentState(tuple(mx.contiguous(one) for one in s.arrays or ()), s.length) for s in states]
        mx.async_eval([array for state in copies for array in state.arrays or ()])
        return StateSnapshot(self.length, tuple(copies))

    def restore(self, states: Sequence[RecurrentState]) -> None:
        for mine, state in zip(self._states, states, strict=True):
            mine.restore(state)

    def release(self) -> None:
        """Its pages are others' from now on."""
        self.tables.release()
        self.length = 0

    def arrays(self) -> list[mx.array]:
        done = [] if self.store.after is None else [self.store.after]
        return [*done, *(array for state in self._states for array in state.arrays())]

    def __del__(self) -> None:
        self.tables.release()


def prefixes_of(store: PagedStore, context: int, limit: int) -> SharedPrefixes[PagedSequence]:
    """What sequences of this store leave for others, in at most so many bytes that nobody runs on."""
    states = any(is_recurrent(layer.mixer) for layer in store.spec.layers)
    tree = PrefixTree(PAGE, store.groups, states, TreeLimits(limit))

    def begin(hit: Hit, prompt: int) -> PagedSequence:
        sequence = PagedSequence(store, context, hit.tables)
        if isinstance(hit.snapshot, StateSnapshot):
            sequence.restore(hit.snapshot.states)
        if states:
            sequence.points = snapshot_points(hit.length, prompt, PAGE, hit.known)
        return sequence

    return SharedPrefixes(tree, begin, store.begin_anew)
