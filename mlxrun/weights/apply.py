"""Carries out the rules of `families/rules.py` on arrays and on quantized weights alike. Everything stays lazy.

The list is gone through rule by rule, so a Stack sees every expert before anything flows on. Rules that
move rows are lossless on quantized weights; those that would touch the packed axis are refused.
Knows no family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx

from ..families.rules import (
    Drop,
    Flatten,
    FlattenFilters,
    Join,
    Map,
    Rename,
    Rule,
    Shuffle,
    Split,
    Squeeze,
    Stack,
    Transpose,
    Unflatten,
    Unzip,
)
from ..ops.quantized import QuantizedWeight, Weight, gather, same_layout
from ..spec import ModelError, shown
from .lowrank import LowRank, stacked

NAMED = 5  # how many names an error lists
MAX_DIGITS = 9  # of an expert's number; a longer one leaves a hole, and so is an error all the same


Flowing = Weight | LowRank


@dataclass(frozen=True, slots=True)
class _Item:
    """A weight on its way down the list, or what an adapter changes of one."""

    name: str
    weight: Flowing
    origin: str  # its name in the file
    met: bool = False  # a rule has matched

    def __str__(self) -> str:
        return f"The tensor {shown(self.origin)}"

    def become(self, match: re.Match[str], dst: str, weight: Flowing) -> _Item:
        """What matched is replaced by `dst`; the rest of the name stays."""
        name = self.name[: match.start()] + match.expand(dst) + self.name[match.end() :]
        return _Item(name, weight, self.origin, True)


def apply_rules(rules: Iterable[Rule], tensors: Mapping[str, Weight]) -> dict[str, Weight]:
    """Canonical name -> weight. Raises ModelError for a tensor that no rule matches, and for a name made twice."""
    return {name: made for name, made in _flow(rules, tensors).items() if not isinstance(made, LowRank)}


def apply_to_adapter(rules: Iterable[Rule], changes: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The same for what an adapter changes, by the names of the weights in the model's own checkpoint."""
    return {name: made for name, made in _flow(rules, changes).items() if isinstance(made, LowRank)}


def _flow(rules: Iterable[Rule], tensors: Mapping[str, Flowing]) -> dict[str, Flowing]:
    items = [_Item(name, weight, name) for name, weight in tensors.items()]
    for rule in rules:
        items = list(_step(rule, items))
    strange = sorted(item.origin for item in items if not item.met)
    if strange:
        names = ", ".join(map(shown, strange[:NAMED])) + (", ..." if len(strange) > NAMED else "")
        raise ModelError(f"The checkpoint has {len(strange)} tensors that this model does not know: {names}.")
    made: dict[str, _Item] = {}
    for item in items:
        if item.name in made:
            raise ModelError(f"{made[item.name]} and {shown(item.origin)} are both the weight {item.name}.")
        made[item.name] = item
    return {name: item.weight for name, item in made.items()}


def _step(rule: Rule, items: Sequence[_Item]) -> Iterator[_Item]:
    search = re.compile(rule.src).search
    stacks: dict[str, dict[int, _Item]] = {}
    joins: dict[str, dict[str, _Item]] = {}
    for item in items:
        match = search(item.name)
        if match is None:
            yield item
        elif isinstance(rule, Stack):
            _collect(stacks, item, match, rule)
        elif isinstance(rule, Join):
            made = item.become(match, rule.dst, _plain(item, "joined to others"))
            if (same := joins.setdefault(made.name, {}).setdefault(match["part"], made)) is not made:
                raise ModelError(f"{same} and {shown(item.origin)} are both part {match['part']!r} of {made.name}.")
        elif not isinstance(rule, Drop):
            yield from _changed(rule, item, match)
    for name, experts in stacks.items():
        yield _stacked(name, experts)
    for name, parts in joins.items():
        assert isinstance(rule, Join)
        yield _joined(name, parts, rule.order)


def _changed(rule: Rule, item: _Item, match: re.Match[str]) -> Iterator[_Item]:
    match rule:
        case Rename(_, dst):
            yield item.become(match, dst, item.weight)
        case Split():
            yield from _split(rule, item, match)
        case Unzip(_, dst, axis):
            for start, name in enumerate(dst):
                yield item.become(match, name, _on_rows(item, axis, partial(_every_other, start=start)))
        case Transpose(_, dst, unless) if tuple(item.weight.shape[-2:]) == unless:
            yield item.become(match, dst, item.weight)
        case Transpose(_, dst) if isinstance(item.weight, LowRank):
            yield item.become(match, dst, _turned(item, item.weight))
        case Transpose(_, dst):
            yield item.become(match, dst, mx.contiguous(_plain(item, "transposed", axes=2).swapaxes(-1, -2)))
        case Squeeze(_, dst):
            weight = _plain(item, "squeezed")
            axes = [i for i, extent in enumerate(weight.shape) if i and extent == 1]
            yield item.become(match, dst, weight.squeeze(axes) if axes else weight)
        case Flatten(_, dst):
            yield item.become(match, dst, _plain(item, "flattened", 0).reshape(-1))
        case FlattenFilters(_, dst, last, side):
            weight = _plain(item, "turned", axes=2 if side else 3)
            if side and weight.shape[1] % side**2:
                raise ModelError(f"{item} has shape {weight.shape}, which are not filters of {side} x {side}.")
            weight = weight.reshape(weight.shape[0], -1, side, side) if side else weight
            weight = weight if last else mx.moveaxis(weight, 1, -1)
            yield item.become(match, dst, mx.contiguous(weight.reshape(weight.shape[0], -1)))
        case Unflatten(_, dst, groups):
            rows = item.weight.shape[_axis(item, 0)]
            if rows % groups:
                raise ModelError(f"{item} has {rows} rows, which are not {groups} groups of equal size.")
            yield item.become(match, dst, _on_rows(item, 0, partial(_in_groups, groups=groups)))
        case Shuffle():
            yield item.become(match, rule.dst, _shuffled(rule, item))
        case Map(_, dst, fn):
            weight = _plain(item, "changed")
            try:
                made = fn(weight)
            except ValueError as error:
                raise ModelError(f"{item} of shape {weight.shape} does not have the shape it should.") from error
            for name, weight in zip(dst, made, strict=True):
                yield item.become(match, name, weight)
        case _:
            raise TypeError(f"no way to carry out {rule!r}")


# ---- rows ---------------------------------------------------------------------------------------

Change = Callable[[mx.array, int], mx.array]


def _on_rows(item: _Item, axis: int, change: Change) -> Flowing:
    """`change` along the axis, on every part of a quantized weight."""
    weight = item.weight
    place = _axis(item, axis)
    if isinstance(weight, LowRank):
        return weight.changed(place, change)
    if isinstance(weight, QuantizedWeight):
        return weight.rows(lambda part: change(part, place))
    return change(weight, place)


def _axis(item: _Item, axis: int) -> int:
    ndim = item.weight.ndim
    place = axis + ndim if axis < 0 else axis
    if not 0 <= place < ndim:
        raise ModelError(f"{item} of shape {item.weight.shape} has no axis {axis} to be cut along.")
    if isinstance(item.weight, QuantizedWeight) and place == ndim - 1:
        raise ModelError(f"{item} is quantized along its last axis, so it cannot be cut there.")
    return place


def _every_other(array: mx.array, axis: int, start: int) -> mx.array:
    whole = (slice(None),) * axis
    return mx.contiguous(array[(*whole, slice(start, None, 2))])


def _split(rule: Split, item: _Item, match: re.Match[str]) -> Iterator[_Item]:
    sizes = _sizes(rule, item)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    parts: dict[str, list[tuple[int, int]]] = {}
    for name, start, size in zip(rule.dst, starts, sizes, strict=True):
        parts.setdefault(name, []).append((start, start + size))
    for name, spans in parts.items():
        yield item.become(match, name, _on_rows(item, rule.axis, partial(_cut, spans=spans, groups=rule.groups)))


def _sizes(rule: Split, item: _Item) -> Sequence[int]:
    """The rows of each part inside one group."""
    rows = item.weight.shape[_axis(item, rule.axis)]
    if rule.sizes is None:
        if rows % (rule.groups * len(rule.dst)):
            raise ModelError(f"{item} has {rows} rows, which {len(rule.dst)} equal parts do not share evenly.")
        return (rows // rule.groups // len(rule.dst),) * len(rule.dst)
    if rows != rule.groups * sum(rule.sizes):
        raise ModelError(f"{item} has {rows} rows; this model needs {rule.groups * sum(rule.sizes)}.")
    return rule.sizes


def _cut(array: mx.array, axis: int, spans: Sequence[tuple[int, int]], groups: int) -> mx.array:
    """The rows of those spans, of every group, joined span by span."""
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    grouped = array.reshape(*before, groups, array.shape[axis] // groups, *after)
    whole = (slice(None),) * (axis + 1)
    pieces = [
        grouped[(*whole, slice(start, stop))].reshape(*before, groups * (stop - start), *after) for start, stop in spans
    ]
    joined = pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=axis)
    return joined if axis == 0 else mx.contiguous(joined)  # a strided one would be copied at every use


def _in_groups(array: mx.array, axis: int, groups: int) -> mx.array:
    return array.reshape(groups, array.shape[axis] // groups, *array.shape[1:])


def _turned(item: _Item, change: LowRank) -> LowRank:
    made = change.transposed()
    if made is None:
        raise ModelError(f"{item} has magnitudes for its rows, which this model uses as columns; that is not there.")
    return made


def _shuffled(rule: Shuffle, item: _Item) -> Flowing:
    weight = item.weight
    axis = rule.axis + weight.ndim if rule.axis < 0 else rule.axis
    if not 0 <= axis < weight.ndim or weight.shape[axis] != sum(rule.sizes):
        raise ModelError(f"{item} has shape {weight.shape}; this model needs {sum(rule.sizes)} along axis {rule.axis}.")
    if isinstance(weight, LowRank):
        return weight.changed(axis, lambda part, place: _reordered(part, place, rule.sizes, rule.order))
    if not isinstance(weight, QuantizedWeight):
        return _reordered(weight, axis, rule.sizes, rule.order)
    if axis == weight.ndim - 1 and any(size % weight.group or size * weight.bits % 32 for size in rule.sizes):
        raise ModelError(f"{item} is quantized in groups of {weight.group}, which its heads do not divide into.")
    width = weight.shape[axis]

    def change(part: mx.array) -> mx.array:
        """Packed codes and scales are fewer along the last axis, in proportion."""
        return _reordered(part, axis, tuple(size * part.shape[axis] // width for size in rule.sizes), rule.order)

    return weight.rows(change)


def _reordered(array: mx.array, axis: int, sizes: Sequence[int], order: Sequence[int]) -> mx.array:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    pieces = mx.split(array, ends[:-1], axis=axis)
    return mx.contiguous(mx.concatenate([pieces[i] for i in order], axis=axis))


def _joined(name: str, parts: Mapping[str, _Item], order: Sequence[str]) -> _Item:
    for part in order:
        if part not in parts:
            raise ModelError(f"Part {part!r} of {name} is missing from the checkpoint.")
    arrays = [_plain(parts[part], "joined to others") for part in order]
    if len({(array.shape[1:], array.dtype) for array in arrays}) > 1:
        raise ModelError(f"The parts of {name} are not all of one width and type.")
    return replace(parts[order[0]], weight=mx.concatenate(arrays))


# ---- stacks -------------------------------------------------------------------------------------


def _collect(stacks: dict[str, dict[int, _Item]], item: _Item, match: re.Match[str], rule: Stack) -> None:
    made = item.become(match, rule.dst, item.weight)
    experts, number = stacks.setdefault(made.name, {}), int(match["e"][:MAX_DIGITS])
    if number in experts:
        raise ModelError(f"{experts[number]} and {shown(item.origin)} are both expert {number} of {made.name}.")
    experts[number] = made


def _stacked(name: str, experts: dict[int, _Item]) -> _Item:
    items = [experts[number] for number in sorted(experts)]
    missing = next(number for number in range(len(items) + 1) if number not in experts)
    if missing < len(items):
        raise ModelError(f"Expert {missing} of {name} is missing from the checkpoint.")
    weights = [item.weight for item in items]
    for item in items:
        if item.weight.shape != items[0].weight.shape:
            raise ModelError(f"{item} has shape {item.weight.shape}; expert 0 beside it has {items[0].weight.shape}.")
    changes = [weight for weight in weights if isinstance(weight, LowRank)]
    if changes:
        if len(changes) < len(weights) or (joined := stacked(changes)) is None:
            raise ModelError(f"The experts of {name} are not all changed in one way.")
        return replace(items[0], weight=joined)
    stored = [weight for weight in weights if not isinstance(weight, LowRank)]
    if not same_layout(stored) or len({_types(weight) for weight in stored}) > 1:
        raise ModelError(f"The experts of {name} are not all stored in one type or quantized in one way.")
    return replace(items[0], weight=gather(stored, mx.stack))


def _types(weight: Weight) -> tuple[mx.Dtype, ...]:
    return tuple(part.dtype for part in weight.parts) if isinstance(weight, QuantizedWeight) else (weight.dtype,)


def _plain(item: _Item, verb: str, axes: int = 1) -> mx.array:
    if isinstance(item.weight, QuantizedWeight):
        raise ModelError(f"{item} is quantized, so it cannot be {verb} without loss.")
    if isinstance(item.weight, LowRank):
        raise ModelError(f"{item} is a change of low rank, which cannot be {verb}.")
    if item.weight.ndim < axes:
        raise ModelError(f"{item} has shape {item.weight.shape}, too few axes to be {verb}.")
    return item.weight
