"""The memory contract: what a model remembers of a sequence, as blocks, the engine and its prefix cache see it; and
what a model is handed of pictures and sounds.

Said of each method is what it changes and who owns what comes back. All of them are called on the engine's thread.
Knows no spec, no block and no kind of memory; `cache` has those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import mlx.core as mx

from .ops.adapters import Adapter
from .ops.masks import Pictures
from .ops.paged import KeyPlace, PagedPass
from .ops.span import Span


class LayerMemory(Protocol):
    """What one layer remembers of one sequence. A block is handed it for one pass and keeps nothing of it."""

    @property
    def places(self) -> tuple[KeyPlace, ...]:
        """Where the keys of all sequences lie, its indexer's after its own. None: `append` has this one's."""

    def append(self, *rows: mx.array) -> Span:
        """Keys only. Adds the newest tokens' rows, each (1, G, L, D).

        Comes back: all that may be looked at, newest included; it stays as it is until the next call that changes us.
        """

    def read(self) -> tuple[mx.array, ...] | None:
        """States only. What was written last; None at the start of a sequence. Changes nothing."""

    def write(self, length: int, *state: mx.array) -> None:
        """States only. Takes the place of what was written; arrays that were read before stay as they are."""


class KeyStore(Protocol):
    """Where the keys of several sequences of one model lie together."""

    def begin(self, sequences: Sequence[tuple[Any, int]], pictures: Sequence[Pictures] = ()) -> PagedPass:
        """Room for the new rows of each, which are all of this store. None: it raises, and changes nothing.
        `pictures`: of each those whose rows see each other."""


class SequenceMemory(Protocol):
    """What a model remembers of one sequence. It belongs to whoever asked the model for it, and to one request."""

    length: int  # tokens that went through the model; a pass and `rewind` change it, nobody else does
    context: int  # the longest this sequence may become; chooses long or short RoPE once
    adapter: Adapter | None  # what is remembered was made with it; who takes the memory says so, before the first pass
    heard: HeardWindow | None  # what its layers look at of a clip; the same holds

    @property
    def points(self) -> Sequence[int]:
        """Lengths at which a pass should end, because a state there is worth keeping."""

    @property
    def store(self) -> KeyStore | None:
        """Where its keys lie beside those of others; None: it keeps its own."""

    @property
    def layers(self) -> Sequence[LayerMemory | None]:
        """By layer; None where a layer remembers nothing of its own."""

    @property
    def bytes(self) -> int:
        """Held on the device now; what it may become, its model tells (`planned_bytes`)."""

    def reusable(self, length: int) -> int:
        """The longest length <= `length` to which it could be taken back now. Changes nothing."""

    def rewind(self, length: int) -> bool:
        """Forgets what comes after `length` tokens. False, and nothing changes, where it cannot."""

    def fork(self) -> Self | None:
        """Another memory that stands where this one does; shared arrays are copied when either writes over them.

        None: it cannot be had twice.
        """

    def arrays(self) -> list[mx.array]:
        """What to evaluate so that it stands on its own. They are ours; nobody keeps them."""


class Prefixes(Protocol):
    """What requests leave behind, for prompts of the same scope that begin alike."""

    shares: bool  # what is read is there for others while its request still runs

    @property
    def bytes(self) -> int:
        """Of what nobody runs on."""

    def held(self, running: Sequence[Any]) -> int:
        """Bytes of these memories and of what is kept, each once."""

    @property
    def told(self) -> Mapping[str, float]:
        """What there is, and what was counted, by name."""

    def ready(self, tokens: Sequence[int], scope: str = "", *, idle: bool = False, rate: float = 0.0) -> bool:
        """False: some of them are just coming from the disk; ask again after the next pass, if not `idle`.

        `rate`: tokens a second that a pass reads, 0 where that is not known: what is computed sooner is not waited for.
        """

    def memory_for(self, tokens: Sequence[int], scope: str = "") -> tuple[SequenceMemory, int]:
        """A memory to go on with, and how many of the tokens it holds already: all but the last at most."""

    def share(self, tokens: Sequence[int], memory: Any, scope: str = "", *, state: bool = False) -> None:
        """What was read of the tokens so far may be used by others; `state`: from where it stands now, too."""

    def keep(self, tokens: Sequence[int], memory: Any, scope: str = "") -> None:
        """Its request has ended, and the memory is not its own any more."""

    def shrink(self, wanted: int) -> None:
        """At least so many bytes go, or all of it."""

    def clear(self) -> None:
        """Nothing that was kept is believed."""

    def close(self) -> None:
        """Nobody comes any more: what is kept for another time is on the disk then."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Of several pictures, end to end, block by block."""

    colours: mx.array  # (T, side * side * 3) uint8: by row, column, colour
    places: mx.array | None  # (T, taps) int32 rows of the grid, which are added
    shares: mx.array | None  # (T, taps) float32, of each; None: all of it
    coordinates: mx.array | None  # (2, T) int32: its row and its column among the patches
    counts: tuple[int, ...]  # of each picture
    windows: tuple[int, ...] = ()  # of each window, one after the other, where layers look within windows
    back: mx.array | None = None  # (R,) int32, which of the rows that come out is whose; None: they lie in order


@dataclass(frozen=True, slots=True)
class HeardWindow:
    """A window of sound as the layers of a decoder look at it: keys and values, made once."""

    spans: tuple[Span, ...]  # by the slot that an attention names

    @property
    def arrays(self) -> list[mx.array]:
        return [array for span in self.spans for array in span.buffers]


@dataclass(frozen=True, slots=True)
class SoftRows:
    """Rows of a pass that a tower made: they come in the place of what their tokens' embedding would be."""

    rows: mx.array  # (R,) int32, where in the pass
    values: mx.array  # (R, dim), and behind those what is added to the rows after each of the first layers
    pictures: Sequence[Pictures] = ()  # of each sequence those whose rows are in the pass: where they begin and end


@dataclass(frozen=True, slots=True)
class Turns:
    """By what rope turns the rows of a pass, where that is not their place among the keys of their sequence."""

    coordinates: Sequence[Sequence[int]]  # (3, T): the place, line and column of a picture's row; of others thrice one
    shifts: Sequence[int]  # of each sequence, how much that is beside the place among keys
    apart: bool  # whether a picture's rows are among them; the shift says all there is to say of the others
