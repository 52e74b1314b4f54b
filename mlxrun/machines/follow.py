"""A machine that follows: it has some layers, does what the first machine says, step by step, and decides nothing.

What breaks here breaks the group: the first machine is told why, and the process ends.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import mlx.core as mx

from ..contracts import SequenceMemory
from ..loading.model import Model
from ..loading.open import OpenedModel
from ..loading.options import LoadOptions
from ..spec import ModelError
from .messages import Begin, Done, End, GaveUp, Message, Ping, Plan, Pong, SequenceOrder, Start, Step
from .ring import Ring
from .share import DTYPES, hello, load_share, loaded
from .wire import Channel, LinkLost, connect, greet

PATIENCE = 60.0  # seconds for the first machine to listen
M = TypeVar("M")
BROKEN = (ModelError, RuntimeError, ValueError, OSError, MemoryError)


class Wrong(ModelError):
    """The first machine said something that cannot be done."""


class Sequences:
    """What this machine remembers of each, by the number that the first machine gave it."""

    def __init__(self, new: Callable[[int], SequenceMemory]) -> None:
        self._new = new
        self._found: dict[int, SequenceMemory] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, number: int) -> SequenceMemory:
        try:
            return self._found[number]
        except KeyError:
            raise Wrong(f"there is no sequence {number} here") from None

    def obey(self, order: int, number: int, what: int) -> None:
        match order:
            case SequenceOrder.OPEN | SequenceOrder.FORK if number in self._found:
                raise Wrong(f"there is a sequence {number} already")
            case SequenceOrder.OPEN:
                self._found[number] = self._new(what)
            case SequenceOrder.FORK:
                copy = self[what].fork()
                if copy is None:
                    raise Wrong(f"sequence {what} cannot be had twice")
                self._found[number] = copy
            case SequenceOrder.REWIND:
                if not self[number].rewind(what):
                    raise Wrong(f"sequence {number} cannot be taken back to {what}")
            case SequenceOrder.CLOSE:
                del self._found[self._checked(number)]
            case _:
                raise Wrong(f"{order} is no order")

    def _checked(self, number: int) -> int:
        self[number]  # raises where there is none
        return number


def follow(start: Start, opened: OpenedModel, options: LoadOptions, version: str) -> None:
    """Until the first machine is gone. ModelError: why this machine cannot be a part of the group."""
    host, _, port = start.control.rpartition(":")
    try:
        channel = greet(connect(host.strip("[]"), int(port), PATIENCE), bytes.fromhex(start.secret))
        channel.send(hello(start, opened, version))
    except LinkLost as error:
        raise ModelError(f"The first machine at {start.control} {error}.") from None
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox, start), name="mlxrun-first", daemon=True).start()
    try:
        serve(start, channel, inbox, opened, options)
    except BROKEN as error:
        sentence = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        with suppress(LinkLost):  # it knows
            channel.send(GaveUp(sentence[:1000]))
        raise ModelError(sentence) from error


def serve(
    start: Start, channel: Channel, inbox: queue.SimpleQueue[Message], opened: OpenedModel, options: LoadOptions
) -> None:
    plan = expected(inbox.get(), Plan)
    count = len(opened.recipe.decoder.layers)
    if not 0 < plan.first < plan.end <= count:
        raise Wrong(f"layers {plan.first} to {plan.end} of {count} are no share")
    layers = range(plan.first, plan.end)
    memory = start.memory[start.rank] or options.memory
    model = load_share(opened, layers, replace(options, memory=memory))
    channel.send(loaded(model, options.context or model.context))
    begin = expected(inbox.get(), Begin)
    ring = Ring(start.rank, start.ring)
    sequences = Sequences(lambda context: model.new_sequence(min(context, begin.context)))
    while True:
        step = expected(inbox.get(), Step)
        run(step, model, sequences, ring, DTYPES[begin.dtype])
        channel.send(Done(step.number))


def run(step: Step, model: Model, sequences: Sequences, ring: Ring, dtype: mx.Dtype) -> None:
    for order in step.orders:
        if len(order) != 3:
            raise Wrong("an order has three numbers")
        sequences.obey(*order)
    if not step.parts:
        model.give_back()
        return
    if any(len(part) != 2 or part[1] < 1 for part in step.parts):
        raise Wrong("a part is a sequence and how many rows it has")
    memories = [(sequences[number], rows) for number, rows in step.parts]
    if any(memory.length + rows > memory.context for memory, rows in memories):
        raise Wrong("a sequence would become longer than its context")
    rows = ring.receive(sum(rows for _, rows in memories), model.spec.dim, dtype)
    out = model(rows, memories)
    mx.eval(ring.send(out), *[array for memory, _ in memories for array in memory.arrays()])


def expected(message: Message, kind: type[M]) -> M:
    if not isinstance(message, kind):
        raise Wrong(f"a {type(message).__name__} came where a {kind.__name__} was due")
    return message


def _listen(channel: Channel, inbox: queue.SimpleQueue[Message], start: Start) -> None:
    """Answers signs of life even while a pass is computed; without the first machine there is nothing to live for."""
    try:
        while True:
            match message := channel.receive(start.silence):
                case Ping(number):
                    channel.send(Pong(number))
                case End():
                    os._exit(0)
                case GaveUp(reason):
                    raise LinkLost(f"turned this machine away: {reason.rstrip('.')}")
                case _:
                    inbox.put(message)
    except LinkLost as error:
        gone(f"{start.names[start.rank]}: the first machine {error}; this one ends.")


def gone(sentence: str) -> None:
    """Whatever the other threads wait for."""
    print(f"mlxrun: {sentence}", file=sys.stderr, flush=True)
    os._exit(1)
