"""A loaded model as the engine holds it: run rows, get logits, start a sequence; and what it takes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import mlx.core as mx

from ..cache.disk import DiskRefused
from ..cache.paged import PagedSequence, prefixes_of
from ..cache.paged_disk import PrefixFolder, add_disk
from ..cache.sequence import SequenceCache
from ..cache.store import PagedStore
from ..contracts import HeardWindow, Prefixes, SequenceMemory, SoftRows, Turns
from ..core import RequestError
from ..memory.headroom import Budget
from ..memory.sequence import sequence_bytes
from ..nn.decoder import DecoderModel
from ..nn.listener import ListenerModel
from ..nn.tower import TowerModel
from ..ops.choose import Chooser
from ..ops.device import Device
from ..spec import Decoder, ModelError
from ..weights.mapped import Watched
from .checksums import Blocks
from .expert_offload import ExpertOffload
from .loaded_adapters import NO_ADAPTERS, LoadedAdapters
from .used import NOTHING_USED, Used


def never_lost(error: Exception) -> str | None:
    """Another pass may go well."""
    return None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a loaded model takes of this machine's memory, for whoever watches over that."""

    budget: Budget | None = None  # None: no plan was made
    before: int = 0  # bytes that the process took before it loaded this
    files: tuple[Watched, ...] = ()  # that weights are views of, which MLX does not count as memory
    adopted: tuple[Watched, ...] = ()  # and those that it does
    viewed: int | None = None  # bytes of weights in `files`; None: all of these
    offload: ExpertOffload | None = None  # of experts that stay on disk
    blocks: Blocks | None = None  # by which a ready file is checked
    sources: frozenset[str] = frozenset()  # the model's own files; weights that are used as stored are views of them
    used: Used = NOTHING_USED
    chooser: Chooser | None = None  # of our Metal kernels; it knows which the device refused
    adapters: LoadedAdapters = field(default_factory=lambda: NO_ADAPTERS)  # that requests may name
    lost: Callable[[Exception], str | None] = never_lost  # why nothing is computed any more after a pass raised that

    @property
    def mapped(self) -> int:
        """Bytes of weights that MLX does not count as memory, without experts that are on disk only."""
        held = sum(file.size for file in self.files) if self.viewed is None else self.viewed
        return held if self.offload is None else held - self.offload.bytes + self.offload.held


NOTHING = Holdings()


class Runnable(Protocol):
    """What the engine needs of a model, whoever wrote its blocks."""

    @property
    def device(self) -> Device:
        """Whose forms draw from its logits."""

    @property
    def vocab(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about this load."""

    @property
    def holdings(self) -> Holdings: ...

    def new_sequence(self, context: int | None = None) -> SequenceMemory:
        """An empty memory, which belongs to whoever asked."""

    def prefixes(self, context: int, limit: int) -> Prefixes | None:
        """What requests leave for others, in so many bytes; None: a memory is had whole or not at all."""

    @property
    def paged_bytes(self) -> int:
        """Of keys in memory that MLX does not count."""

    def give_back(self) -> None:
        """Of that, what nobody uses goes back to the system. Nothing may be under way."""

    def planned_bytes(self, tokens: int, rows: int) -> int:
        """Of the memory of a sequence of that length which is read `rows` at a time; asked where there is a budget."""

    @property
    def tower(self) -> TowerModel | None:
        """What sees; None: it reads text only."""

    @property
    def listener(self) -> ListenerModel | None:
        """What hears, for whose rows there is `heard`; None: nothing does."""

    def heard(self, rows: mx.array) -> HeardWindow:
        """(R, dim) of the listener -> what a sequence is told of them, before its first pass."""

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[SequenceMemory, int]],
        soft: SoftRows | None = None,
        turns: Turns | None = None,
        *,
        seen: Sequence[int] = (),
    ) -> mx.array:
        """(T,) -> (T, hidden). `sequences`: each memory, which moves on, and how many of the rows are its own.
        `soft`: rows that the tower made. `turns`: where rows turn that do not by their place.
        `seen`: of an encoder's texts how many rows anybody looks at; empty: all.

        A memory was made by this model's `new_sequence`."""

    def logits(self, hidden: mx.array) -> mx.array: ...

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        """(T,) -> (sequences,): how well the two texts of each fit, `types` being in which of the two a token stands.
        Of cross-encoders only."""

    def best(self, hidden: mx.array) -> mx.array | None:
        """The token of the largest logit of each row, -1 where one is not a number. None: take it from `logits`."""


def pages_for(decoder: DecoderModel, keys: int | None) -> PagedStore | None:
    """Where the keys of all its sequences lie; None: native kernels do not compute, or it has no keys to keep."""
    if not decoder.device.native or decoder.spec.kind != "decoder":
        return None
    return PagedStore(decoder.spec, key_types(decoder), as_bytes=keys == 1)


def key_types(decoder: DecoderModel) -> list[list[mx.Dtype]]:
    """Of what each layer remembers of a token, in order; arrays know their type before they have values."""
    sequence = SequenceCache(decoder.spec)
    decoder(decoder.one_token, [(sequence, 1)])
    return [[] if memory is None else [array.dtype for array in memory.arrays()] for memory in sequence.layers]


@dataclass(frozen=True)
class Model:
    decoder: DecoderModel
    notes: tuple[str, ...] = ()
    fitting: int | None = None  # the context that memory is enough for, where a plan was made
    widths: tuple[int, int | None] = (4, None)  # bytes of a value that is computed, and of a key where narrower
    holdings: Holdings = field(default=NOTHING, repr=False)
    prefix_folder: PrefixFolder | None = None  # where what requests have read is kept for the next start
    pages: PagedStore | None = field(init=False, repr=False)  # None: each sequence keeps its own keys

    def __post_init__(self) -> None:
        object.__setattr__(self, "pages", pages_for(self.decoder, self.widths[1]))

    @property
    def spec(self) -> Decoder:
        return self.decoder.spec

    @property
    def device(self) -> Device:
        return self.decoder.device

    @property
    def vocab(self) -> int:
        return self.spec.vocab

    @property
    def context(self) -> int:
        return self.spec.context if self.fitting is None else min(self.spec.context, self.fitting)

    def new_sequence(self, context: int | None = None) -> SequenceMemory:
        if self.pages is None:
            return SequenceCache(self.spec, context or self.context)
        return PagedSequence(self.pages, context or self.context)

    def prefixes(self, context: int, limit: int) -> Prefixes | None:
        if self.pages is None:
            return None
        prefixes = prefixes_of(self.pages, context, limit)
        if self.prefix_folder is not None:
            try:
                add_disk(prefixes, self.pages, self.prefix_folder, self, self.holdings.adapters.values())
            except DiskRefused as error:
                raise ModelError(str(error)) from None
        return prefixes

    @property
    def paged_bytes(self) -> int:
        return 0 if self.pages is None else self.pages.bytes

    def give_back(self) -> None:
        if self.pages is not None:
            mx.synchronize()
            self.pages.give_back()

    def planned_bytes(self, tokens: int, rows: int) -> int:
        return sequence_bytes(self.spec, tokens, self.widths[0], rows, self.widths[1])

    @property
    def tower(self) -> TowerModel | None:
        return self.decoder.tower

    @property
    def listener(self) -> ListenerModel | None:
        return self.decoder.listener

    def heard(self, rows: mx.array) -> HeardWindow:
        return self.decoder.heard(rows)

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[SequenceMemory, int]],
        soft: SoftRows | None = None,
        turns: Turns | None = None,
        thought: mx.array | None = None,
        seen: Sequence[int] = (),
    ) -> mx.array:
        """`thought` (T, hidden): what a head is given of the token before each."""
        return self.decoder(ids, sequences, soft=soft, thought=thought, turns=turns, seen=seen)

    def logits(self, hidden: mx.array) -> mx.array:
        return self.decoder.logits(hidden)

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        return self.decoder.rank(ids, sequences, types)

    def best(self, hidden: mx.array) -> mx.array | None:
        return self.decoder.best(hidden)


@dataclass(frozen=True)
class Unloaded:
    """What is left of a model when its engine is closed: enough to be looked at."""

    device: Device
    vocab: int
    context: int
    notes: tuple[str, ...]
    holdings: Holdings = NOTHING

    def new_sequence(self, context: int | None = None) -> SequenceCache:
        raise RequestError("The model is unloaded.")

    def prefixes(self, context: int, limit: int) -> Prefixes | None:
        return None

    @property
    def paged_bytes(self) -> int:
        return 0

    def give_back(self) -> None:
        """MLX has all of it."""

    def planned_bytes(self, tokens: int, rows: int) -> int:
        return 0

    @property
    def tower(self) -> TowerModel | None:
        return None

    @property
    def listener(self) -> ListenerModel | None:
        return None

    def heard(self, rows: mx.array) -> HeardWindow:
        raise RequestError("The model is unloaded.")

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[SequenceMemory, int]],
        soft: SoftRows | None = None,
        turns: Turns | None = None,
        *,
        seen: Sequence[int] = (),
    ) -> mx.array:
        raise RequestError("The model is unloaded.")

    def logits(self, hidden: mx.array) -> mx.array:
        raise RequestError("The model is unloaded.")

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        raise RequestError("The model is unloaded.")

    def best(self, hidden: mx.array) -> mx.array | None:
        raise RequestError("The model is unloaded.")
