"""Experts that stay on disk: pages of a mapped file, of which this process holds a bounded share.

Before a layer's experts run, its routing is computed and told here: those that are not held are asked for all at once,
and the longest unused go, so that there is room for the whole layer. The system maps more than what is touched (as much
as it keeps together, which may be megabytes), so what is not held of a layer is given up once that has run. The next
layer's router is asked about the same rows too, and what it would choose is read ahead while this layer computes; a
wrong guess costs reading. When a pass is computed changes by this, and no value of it. Pages that this process gives up
stay in the system's cache until it wants them for others.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..memory.streaming import EDGES
from ..nn.decoder import DecoderModel
from ..nn.moe import DenseAndExpertsBlock, MoEBlock
from ..nn.stack import ExpertChoice
from ..weights.mapped import Watched

MATRICES = ("gate", "up", "down")

Place = tuple[int, int]  # first byte in the file, bytes


class MappedFile(Watched, Protocol):
    """One whose pages may be asked for; the native library has such."""

    def will_need(self, start: int, size: int) -> None: ...

    def need_not_stay(self, start: int, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class ExpertStack:
    """The experts of one layer: their matrices lie expert after expert."""

    places: tuple[Place, ...]
    experts: int

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.places)

    def of(self, expert: int) -> list[Place]:
        return [(start + size // self.experts * expert, size // self.experts) for start, size in self.places]

    def pages(self, expert: int) -> list[Place]:
        """Whole pages around its matrices."""
        return [(low(start), high(start + size) - low(start)) for start, size in self.of(expert)]

    def gaps(self, held: Sequence[int]) -> Iterator[Place]:
        """Whole pages that have nothing of those experts; `held` in order."""
        for start, size in self.places:
            each, at = size // self.experts, start
            for expert in (*held, self.experts):
                first, end = high(at), low(start + expert * each)
                if end > first:
                    yield first, end - first
                at = start + (expert + 1) * each


class ExpertOffload:
    def __init__(self, file: MappedFile, stacks: Sequence[ExpertStack], bound: int) -> None:
        """`bound`: bytes; where one layer takes more, that alone is held."""
        self._file, self._stacks, self.bound = file, tuple(stacks), bound
        self._held: OrderedDict[tuple[int, int], int] = OrderedDict()  # (layer, expert) -> bytes, longest unused first
        self._here: list[set[int]] = [set() for _ in stacks]  # of each layer, the experts that are held
        self._guessed: frozenset[tuple[int, int]] = frozenset()
        self._running: int | None = None  # the layer that ran last
        self.held = 0
        self.missed = self.foreseen = 0  # experts that were not held, and of those the ones read ahead

    @property
    def bytes(self) -> int:
        """Of all experts, held or not."""
        return sum(stack.bytes for stack in self._stacks)

    def use(self, layer: int, experts: Collection[int]) -> None:
        """They are about to be read, and nothing else is."""
        self._tidy()
        self._running, stack = layer, self._stacks[layer]
        self._make_room(layer)
        for expert in experts:
            if (layer, expert) in self._held:
                self._held.move_to_end((layer, expert))
                continue
            self._ask(layer, expert)
            taken = sum(size for _, size in stack.pages(expert))
            self._held[layer, expert] = taken
            self._here[layer].add(expert)
            self.held += taken
            self.missed += 1
            self.foreseen += (layer, expert) in self._guessed

    def ahead(self, layer: int, experts: Collection[int]) -> None:
        """They may be read next."""
        self._guessed = frozenset((layer, expert) for expert in experts if (layer, expert) not in self._held)
        for _, expert in self._guessed:
            self._ask(layer, expert)

    def _tidy(self) -> None:
        """Give up what the system mapped beside the experts of the layer that has run."""
        if self._running is not None:
            for start, size in self._stacks[self._running].gaps(sorted(self._here[self._running])):
                self._file.need_not_stay(start, size)

    def _make_room(self, layer: int) -> None:
        """For all of that layer, beside what is held of the others."""
        own = sum(self._held[layer, expert] for expert in self._here[layer])
        over, leaving = self.held - own + self._stacks[layer].bytes + EDGES - self.bound, []
        for key, taken in self._held.items():
            if over <= 0:
                break
            if key[0] != layer:
                leaving.append(key)
                over -= taken
        for number, expert in leaving:
            for start, size in self._stacks[number].pages(expert):
                self._file.need_not_stay(start, size)
            self._here[number].remove(expert)
            self.held -= self._held.pop((number, expert))

    def _ask(self, layer: int, expert: int) -> None:
        for start, size in self._stacks[layer].of(expert):
            self._file.will_need(start, size)


def low(at: int) -> int:
    return at // mmap.PAGESIZE * mmap.PAGESIZE


def high(at: int) -> int:
    return low(at + mmap.PAGESIZE - 1)


def offload_experts(decoder: DecoderModel, file: MappedFile, places: Mapping[str, Place], bound: int) -> ExpertOffload:
    """`places`: of every weight in the file, by canonical name."""
    stacks, mixtures = [], []
    for number, layer in enumerate(decoder.layers):
        joint = isinstance(layer.ffn, DenseAndExpertsBlock)
        block = layer.ffn.moe if isinstance(layer.ffn, DenseAndExpertsBlock) else layer.ffn
        if isinstance(block, MoEBlock):
            scope = f"layers.{number}.ffn.{'moe.' if joint else ''}experts"
            names = [f"{scope}.{matrix}.weight" for matrix in MATRICES]
            stacks.append(ExpertStack(tuple(places[name] for name in names if name in places), block.spec.experts))
            mixtures.append(number)
    offload = ExpertOffload(file, stacks, bound)
    choices = [ExpertChoice(decoder.spec, decoder.layers[number], decoder.device) for number in mixtures]
    decoder.watch({number: watch_routing(offload, at, choices[at : at + 2]) for at, number in enumerate(mixtures)})
    return offload


def watch_routing(offload: ExpertOffload, layer: int, choices: Sequence[ExpertChoice]) -> Callable[[mx.array], None]:
    """`choices`: of that layer, and of the one after it where there is one."""

    def tell(x: mx.array) -> None:
        """x (T, dim) before the layer's network."""
        ids, *guess = (choice(x) for choice in choices)
        mx.eval(ids, *guess)
        offload.use(layer, distinct(ids))
        for after in guess:
            offload.ahead(layer + 1, distinct(after))

    return tell


def distinct(ids: mx.array) -> list[int]:
    """Numbers come as float32."""
    return sorted(set(ids.astype(mx.int32).reshape(-1).tolist()))  # type: ignore[arg-type]  # a flat list of numbers
