"""Layers in a row as one node, whatever rows of whatever sequences a pass has.

For a small model, building and walking the graph of a step costs as much as the arithmetic. What a layer does is told
to the native stack once, step by step (`nn/steps.py`); a pass tells it where keys lie and which way sequences turn.
A mixer that the stack does not understand stands between two of them, and the network of its layer goes with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import mlx.core as mx

from ..contracts import LayerMemory, SequenceMemory
from ..ops.adapters import Adapter, AdapterPart
from ..ops.device import Device
from ..ops.fast_forms import STACK
from ..ops.native import native
from ..spec import Attention, Decoder, LatentAttention, Layer, Mixer, ShortConv, SideBySide
from .batch import Pass
from .layer import LayerBlock
from .native_parts import Unpacked, packed
from .rope import Rotary
from .steps import LayerSteps

Watch = Callable[[mx.array], None]  # hears of x (T, dim) before it goes on
NOBODY: Mapping[int, Watch] = {}


class Run(Protocol):
    """Layers that follow on each other, or a part of one."""

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        """x (T, dim) -> (T, dim); `extra` (T, layers, per-layer dim) where the model feeds every layer."""


@dataclass(frozen=True, slots=True)
class LayerPart:
    """A layer, or its mixer or network alone with what belongs to that."""

    number: int
    spec: Layer  # without what belongs to the other part

    @property
    def served(self) -> bool:
        return STACK.serves(self.spec)

    @property
    def crosses(self) -> bool:
        """It is what a layer has between its mixer and its network, alone."""
        return self.spec.cross is not None and self.spec.mixer is None


@dataclass(frozen=True, slots=True)
class SingleLayer:
    number: int
    block: LayerBlock

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        number = self.number
        return self.block(x, p, [m.layers[number] for m in memories], None if extra is None else extra[:, number])


@dataclass(frozen=True, slots=True)
class SingleMixer:
    number: int
    block: LayerBlock

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        return self.block.mix(x, p, [m.layers[self.number] for m in memories])


@dataclass(frozen=True, slots=True)
class SingleCross:
    block: LayerBlock

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        assert self.block.cross is not None
        return self.block.cross(x, p)


@dataclass(frozen=True, slots=True)
class TellRows:
    watch: Watch

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        self.watch(x)
        return x


@dataclass(frozen=True, slots=True)
class AddDeep:
    """Behind a layer, what a tower made for rows that it sees."""

    number: int

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        if p.soft is None:
            return x
        first = (1 + self.number) * x.shape[1]
        return x.at[p.soft.rows].add(p.soft.values[:, first : first + x.shape[1]].astype(x.dtype))


KEEPS_KEYS = (Attention, LatentAttention, SideBySide)


def states_of(mixer: Mixer | None) -> int:
    """Arrays that a mixer remembers of a sequence beside its keys: a convolution's window, and its scan's state."""
    if mixer is None or isinstance(mixer, Attention | LatentAttention):
        return 0
    return 1 if isinstance(mixer, ShortConv) else 2


def state_of(memory: SequenceMemory, number: int) -> LayerMemory:
    found = memory.layers[number]
    assert found is not None
    return found


def one_by_one(blocks: Sequence[LayerBlock], deep: int = 0) -> tuple[Run, ...]:
    runs = list[Run]()
    for number, block in enumerate(blocks):
        runs.append(SingleLayer(number, block))
        if number < deep:
            runs.append(AddDeep(number))
    return tuple(runs)


def runs_of(
    spec: Decoder, blocks: Sequence[LayerBlock], device: Device, before: Mapping[int, Watch] = NOBODY, deep: int = 0
) -> tuple[Run, ...]:
    """The layers where keys lie in pages: what the stack understands together, other parts by themselves.

    `before`: who hears of the rows before the network of a layer reads them. `deep`: behind so many layers rows of a
    picture are fed.
    """
    if not device.native or spec.kind != "decoder":
        return one_by_one(blocks, deep)
    try:
        return tuple(_joined(spec, blocks, device, before, deep))
    except Unpacked:
        return one_by_one(blocks, deep)


def _joined(
    spec: Decoder, blocks: Sequence[LayerBlock], device: Device, before: Mapping[int, Watch], deep: int
) -> Iterator[Run]:
    together: list[LayerPart] = []
    parts = [(part, n in before) for n, layer in enumerate(spec.layers) for part in parts_of(n, layer, n in before)]
    for at, (part, heard) in enumerate(parts):
        watch = before[part.number] if heard and part.spec.ffn is not None else None
        if together and (watch is not None or not part.served):
            yield LayerStack(spec, blocks, together, device)
            together = []
        if watch is not None:
            yield TellRows(watch)
        if part.served:
            together.append(part)
        else:
            single = SingleLayer if part.spec == spec.layers[part.number] else SingleMixer
            yield SingleCross(blocks[part.number]) if part.crosses else single(part.number, blocks[part.number])
        fed = part.number < deep and (part is parts[-1][0] or parts[at + 1][0].number != part.number)
        if together and (fed or at + 1 == len(parts)):
            yield LayerStack(spec, blocks, together, device)
            together = []
        if fed:
            yield AddDeep(part.number)


def parts_of(number: int, layer: Layer, cut: bool) -> list[LayerPart]:
    """The whole layer; or its mixer and network apart, where that is asked or only the latter is understood, or
    something stands between them."""
    whole = LayerPart(number, layer)
    if layer.cross is not None:
        bare = replace(layer, cross=None, cross_norm=None)
        between = LayerPart(number, replace(layer, mixer=None, mixer_norm=None, ffn=None, ffn_norm=None))
        around = parts_of(number, bare, cut=True)
        return [around[0], between, around[1]] if len(around) > 1 else [whole]
    apart = layer.wiring in ("serial", "post") and layer.mixer is not None and layer.ffn is not None
    if not apart or (whole.served and not cut):
        return [whole]
    alone = replace(layer, ffn=None, ffn_norm=None, ffn_post=None, per_layer_input=False, out_scale=False)
    mixer = LayerPart(number, alone)
    ffn = LayerPart(number, replace(layer, mixer=None, mixer_norm=None, mixer_post=None))
    return [mixer, ffn] if ffn.served and (mixer.served or layer.wiring == "serial") else [whole]


class LayerStack:
    __slots__ = ("_adapters", "_keepers", "_lent", "_remembering", "_ropes", "_rounding", "_slots", "_stack", "parts")

    def __init__(self, spec: Decoder, blocks: Sequence[LayerBlock], parts: Sequence[LayerPart], device: Device) -> None:
        """Unpacked: some weight is in another form."""
        steps = LayerSteps(spec)
        for part in parts:
            steps.add(blocks[part.number], part.spec, part.number)
        self._stack, self._ropes, self._rounding = steps.stack, steps.ropes, device.rounding
        self._slots = tuple(steps.slots)
        self._adapters: WeakKeyDictionary[Adapter, Any] = WeakKeyDictionary()  # as this stack knows them
        self.parts = tuple(parts)
        mixers = [layer.mixer for layer in spec.layers]
        lenders = {m.lends: i for i, m in enumerate(mixers) if isinstance(m, Attention) and m.lends is not None}
        mixing = [part for part in parts if part.spec.mixer is not None]
        attending = [part.number for part in mixing if isinstance(part.spec.mixer, KEEPS_KEYS)]
        # of each part that remembers a state, its layer and how many arrays that has
        self._remembering = [(part.number, states_of(part.spec.mixer)) for part in mixing if states_of(part.spec.mixer)]
        # of each part that attends, the layer whose keys it looks at
        self._keepers = [
            lenders[m.borrows] if isinstance(m := mixers[i], Attention) and m.borrows is not None else i
            for i in attending
        ]
        self._lent = [(slot, layer) for slot, layer in lenders.items() if layer in attending]

    def __call__(self, x: mx.array, p: Pass, memories: Sequence[SequenceMemory], extra: mx.array | None) -> mx.array:
        assert p.pages is not None
        layers: Sequence[Any] = memories[0].layers  # every sequence of the pass has the same places
        places = [layers[keeper].places[0] for keeper in self._keepers]
        for slot, layer in self._lent:
            p.places[slot] = layers[layer].places[0]
        at, groups = [place.at for place in places], [place.group for place in places]
        tables, before = tables_of(self._ropes, p), self._before(memories)
        counts = [segment.count for segment in p.segments] if before else []
        adapted = [(start, count, self._own(adapter)) for start, count, adapter in p.adapted]
        turns = [] if p.turns is None else p.turns.coordinates
        x, *after = self._stack(
            x, extra, at, groups, p.pages.batches, tables, self._rounding, counts, before, adapted, turns
        )
        if before:
            self._remember(after, p, memories)
        return x

    def _own(self, adapter: Adapter) -> Any:
        if adapter not in self._adapters:
            parts = [adapter.parts.get(name) for name in self._slots]
            self._adapters[adapter] = self._stack.adapter([None if part is None else low_rank(part) for part in parts])
        return self._adapters[adapter]

    def _before(self, memories: Sequence[SequenceMemory]) -> list[list[mx.array | None]]:
        """By remembering step and sequence."""
        found: list[list[mx.array | None]] = []
        for number, count in self._remembering:
            states = [state_of(memory, number).read() or (None,) * count for memory in memories]
            found += [list(same) for same in zip(*states, strict=True)]
        return found

    def _remember(self, after: list[mx.array], p: Pass, memories: Sequence[SequenceMemory]) -> None:
        at, step = 0, len(memories)
        for number, count in self._remembering:
            for i, (memory, segment) in enumerate(zip(memories, p.segments, strict=True)):
                state = after[at + i : at + count * step : step]
                state_of(memory, number).write(segment.offset + segment.count, *state)
            at += count * step


class ExpertChoice:
    """The experts that the network of a layer will choose, bit for bit: x (T, dim), as it is before that network ->
    (T, top_k) their numbers as float32."""

    __slots__ = ("_rounding", "_stack")

    def __init__(self, spec: Decoder, block: LayerBlock, device: Device) -> None:
        steps = LayerSteps(spec, out="choices")
        steps.choose(block)
        self._stack, self._rounding = steps.stack, device.rounding

    def __call__(self, x: mx.array) -> mx.array:
        (chosen,) = self._stack(x, None, [], [], [], [], self._rounding)
        return chosen


def low_rank(part: AdapterPart) -> Any:
    return native.LowRank(packed(part.a), packed(part.b), part.scale, part.gain)


def tables_of(ropes: Sequence[Rotary], p: Pass) -> list[list[int]]:
    """Of each rope, which table each sequence turns by; nothing where all have the first."""
    if all(rope.table.long is None for rope in ropes):
        return []
    return [[rope.which(segment.context) for segment in p.segments] for rope in ropes]
