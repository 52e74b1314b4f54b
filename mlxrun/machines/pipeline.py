"""A model whose other layers are on other machines, as the engine holds it: one like any other.

What becomes of each sequence here is written down, and the followers are told with the next pass: they do the same
and decide nothing. They never see a token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import mlx.core as mx

from ..cache.kinds import group_of, is_recurrent
from ..contracts import HeardWindow, KeyStore, LayerMemory, Prefixes, SequenceMemory, SoftRows, Turns
from ..core import RequestError
from ..loading.model import Holdings, Model
from ..nn.listener import ListenerModel
from ..nn.tower import TowerModel
from ..ops.adapters import Adapter
from ..ops.device import Device
from ..spec import Decoder, Layer
from .messages import Numbers, SequenceOrder, Step

Tell = Callable[[Step], None]


class Orders:
    """What becomes of sequences, from any thread, until it is told."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._waiting: deque[Numbers] = deque()
        self._numbers, self._steps = count(), count()

    def new(self) -> int:
        return next(self._numbers)

    def add(self, order: SequenceOrder, sequence: int, what: int = 0) -> None:
        self._waiting.append((int(order), sequence, what))

    def step(self, parts: Sequence[tuple[int, int]]) -> None:
        orders = []
        while self._waiting:
            orders.append(self._waiting.popleft())
        if orders or parts:
            self._tell(Step(next(self._steps), tuple(orders), tuple(parts)))


@dataclass(eq=False)
class SpreadSequence:
    """What all machines remember of a sequence: this one's own part of it, and what the others are told."""

    own: SequenceMemory
    number: int
    orders: Orders
    whole: bool  # what this one can take back the others can, too
    last: Callable[[], list[mx.array]] = field(repr=False)  # what the last pass waits for

    @property
    def length(self) -> int:
        return self.own.length

    @length.setter
    def length(self, length: int) -> None:
        self.own.length = length

    @property
    def context(self) -> int:
        return self.own.context

    @context.setter
    def context(self, context: int) -> None:
        self.own.context = context

    @property
    def adapter(self) -> Adapter | None:
        return self.own.adapter

    @adapter.setter
    def adapter(self, adapter: Adapter | None) -> None:
        self.own.adapter = adapter

    @property
    def heard(self) -> HeardWindow | None:
        return self.own.heard

    @heard.setter
    def heard(self, heard: HeardWindow | None) -> None:
        self.own.heard = heard

    @property
    def points(self) -> Sequence[int]:
        return self.own.points

    @property
    def store(self) -> KeyStore | None:
        return self.own.store

    @property
    def layers(self) -> Sequence[LayerMemory | None]:
        return self.own.layers

    @property
    def bytes(self) -> int:
        return self.own.bytes

    def reusable(self, length: int) -> int:
        if not self.whole and length < self.length:
            return 0
        return self.own.reusable(length)

    def rewind(self, length: int) -> bool:
        if self.reusable(length) != length or not self.own.rewind(length):
            return False
        self.orders.add(SequenceOrder.REWIND, self.number, length)
        return True

    def fork(self) -> SpreadSequence | None:
        own = self.own.fork()
        if own is None:
            return None
        number = self.orders.new()
        self.orders.add(SequenceOrder.FORK, number, self.number)
        return SpreadSequence(own, number, self.orders, self.whole, self.last)

    def arrays(self) -> list[mx.array]:
        return [*self.own.arrays(), *self.last()]

    def __del__(self) -> None:
        self.orders.add(SequenceOrder.CLOSE, self.number)


class PipelinedModel:
    def __init__(self, own: Model, whole: Decoder, orders: Orders, context: int, notes: Sequence[str] = ()) -> None:
        """`own`: the first layers and all that is no layer, with the way round behind them. `context`: that all
        machines have memory for."""
        self.own, self.context, self.notes = own, context, (*own.notes, *notes)
        self._orders = orders
        kinds = {kind_of(layer) for layer in own.spec.layers}
        self._whole = {kind_of(layer) for layer in whole.layers} <= kinds | {None}
        self._after: list[mx.array] = []
        self.holdings: Holdings = own.holdings
        self.fuller = 1.0  # how many times as full as this machine another becomes by the same sequence

    @property
    def device(self) -> Device:
        return self.own.device

    @property
    def vocab(self) -> int:
        return self.own.vocab

    @property
    def tower(self) -> TowerModel | None:
        return None

    @property
    def listener(self) -> ListenerModel | None:
        return None

    def heard(self, rows: mx.array) -> HeardWindow:
        raise RequestError("A model on several machines hears nothing.")

    @property
    def paged_bytes(self) -> int:
        return self.own.paged_bytes

    def give_back(self) -> None:
        self._orders.step(())
        self.own.give_back()

    def new_sequence(self, context: int | None = None) -> SpreadSequence:
        own, number = self.own.new_sequence(context or self.context), self._orders.new()
        self._orders.add(SequenceOrder.OPEN, number, own.context)
        return SpreadSequence(own, number, self._orders, self._whole, lambda: self._after)

    def prefixes(self, context: int, limit: int) -> Prefixes | None:
        """Whole memories are kept, which all machines can be told of; pages are this machine's own."""
        return None

    def planned_bytes(self, tokens: int, rows: int) -> int:
        return int(self.fuller * self.own.planned_bytes(tokens, rows))

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[Any, int]],
        soft: SoftRows | None = None,
        turns: Turns | None = None,
        *,
        seen: Sequence[int] = (),
    ) -> mx.array:
        self._orders.step([(memory.number, rows) for memory, rows in sequences])
        hidden = self.own(ids, [(memory.own, rows) for memory, rows in sequences], soft, turns, seen=seen)
        self._after = [hidden]
        return hidden

    def logits(self, hidden: mx.array) -> mx.array:
        return self.own.logits(hidden)

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        raise RequestError("A model on several machines has no head that ranks texts.")

    def best(self, hidden: mx.array) -> mx.array | None:
        return self.own.best(hidden)


def kind_of(layer: Layer) -> str | None:
    """By which rule it forgets; None: it remembers nothing of its own. Of a kind all can go back alike."""
    if is_recurrent(layer.mixer):
        return "state"
    group = group_of(layer)
    return None if group is None else group.name
