"""What an adapter of PEFT changes that is no matrix of its own in a file: experts that lie in one tensor, and weights
that were trained whole. Both need the model's shapes, so they are for who fuses.

PEFT's `target_parameters` gives each tensor of E experts one pair: a (E * rank, in), the expert slowest, and
b (out, rank * E), the expert fastest. Which tensor it is for, and whether that lies (E, out, in) or (E, in, out),
stands nowhere, and versions of PEFT differ in it (0.19 turned it round), but it is one way for all tensors of a module.
Shapes decide, and where they allow two readings it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product

import mlx.core as mx

from ..spec import ModelError, shown
from ..weights.lowrank import LowRank
from .files import AdapterFile
from .pairs import NESTED, Scale, parameters_of, peft_parts, peft_scale, trained_whole

Shapes = Mapping[str, tuple[int, ...]]
# how a tensor of all experts is called where files have a matrix for each: the rows of these, one after the other
APART = {"gate_up_proj": ("gate_proj", "up_proj"), "up_proj": ("up_proj",), "down_proj": ("down_proj",)}


@dataclass(frozen=True)
class ReadPair:
    """A pair in one of its readings."""

    target: str
    change: LowRank


def whole_weights(file: AdapterFile) -> dict[str, mx.array]:
    """`modules_to_save` and trained biases, by their names in the checkpoint."""
    if file.format != "peft":
        return {}
    named = {name: trained_whole(file, name) for name in file.tensors}
    return {own: file.tensors[name] for name, own in named.items() if own is not None}


def expert_modules(file: AdapterFile) -> dict[str, list[dict[str, mx.array]]]:
    """Of each module of experts its pairs."""
    found: dict[str, list[dict[str, mx.array]]] = {}
    for module, parts in (peft_parts(file) if file.format == "peft" else {}).items():
        plain = NESTED.sub("", module)
        if parameters_of(file, plain):
            found.setdefault(plain, []).append(parts)
    return found


def expert_changes(file: AdapterFile, shapes: Shapes) -> dict[str, LowRank]:
    """`shapes`: of the tensors that the model's files have."""
    made: dict[str, LowRank] = {}
    for module, pairs in expert_modules(file).items():
        scale = peft_scale(file.config)
        targets = parameters_of(file, module)
        for placed in _placed(file, module, targets, pairs, shapes, scale):
            made |= _by_file(f"{module}.{placed.target}", module, placed, shapes)
    return made


def _placed(
    file: AdapterFile,
    module: str,
    targets: list[str],
    pairs: list[dict[str, mx.array]],
    shapes: Shapes,
    scale: Scale,
) -> list[ReadPair]:
    """The one reading in which every pair has a tensor of its own."""
    who = f"{file.path.name}: {shown(module)}"
    if len(pairs) > len(targets) or any(parts.keys() != {"a", "b"} for parts in pairs):
        raise ModelError(
            f"{who} has {len(pairs)} pairs for {', '.join(targets)}; each must have its lora_A and lora_B."
        )
    found = []
    for order, inputs_first in product(permutations(targets, len(pairs)), (False, True)):
        asked = zip(order, pairs, strict=True)
        reading = [_read(module, target, parts, shapes, scale, inputs_first) for target, parts in asked]
        placed = [one for one in reading if one is not None]
        found += [placed] if len(placed) == len(pairs) else []
    if not found:
        raise ModelError(f"{who} fits none of {', '.join(targets)}: it was trained for another model.")
    if len(found) > 1:
        raise ModelError(
            f"{who} can be read in {len(found)} ways, because shapes do not tell its tensors or their orientation "
            "apart: merge it with PEFT where it was trained."
        )
    return found[0]


def _read(
    module: str, target: str, parts: Mapping[str, mx.array], shapes: Shapes, scale: Scale, inputs_first: bool
) -> ReadPair | None:
    """`inputs_first`: the tensor lies (E, in, out)."""
    shape, (a, b) = _shape_of(module, target, shapes), (parts["a"], parts["b"])
    if shape is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[0] % shape[0]:
        return None
    wanted = (a.shape[1], b.shape[0]) if inputs_first else (b.shape[0], a.shape[1])
    experts, rank = shape[0], a.shape[0] // shape[0]
    if not rank or shape[1:] != wanted:
        return None
    down = a.reshape(experts, rank, a.shape[1])
    up = b.reshape(b.shape[0], rank, experts).transpose(2, 0, 1)  # (E, out, rank)
    ends = (up.swapaxes(-1, -2), down.swapaxes(-1, -2)) if inputs_first else (down, up)
    return ReadPair(target, LowRank(*ends, scale(module, rank)))


def _shape_of(module: str, target: str, shapes: Shapes) -> tuple[int, ...] | None:
    """(E, ., .): as one tensor, or of a matrix for each expert together."""
    if (whole := shapes.get(f"{module}.{target}")) is not None:
        return whole if len(whole) == 3 else None
    parts = [shapes.get(f"{module}.0.{name}.weight") for name in APART.get(target, ())]
    if not parts or any(part is None or len(part) != 2 for part in parts):
        return None
    rows = sum(part[0] for part in parts if part is not None)
    assert parts[0] is not None
    return _experts(module, target, shapes), rows, parts[0][1]


def _experts(module: str, target: str, shapes: Shapes) -> int:
    count = 0
    while f"{module}.{count}.{APART[target][0]}.weight" in shapes:
        count += 1
    return count


def _by_file(name: str, module: str, placed: ReadPair, shapes: Shapes) -> dict[str, LowRank]:
    change = placed.change
    if name in shapes:
        return {name: change}
    made, first = {}, 0
    for part in APART[placed.target]:
        rows = shapes[f"{module}.0.{part}.weight"][0]
        for expert in range(change.shape[0]):
            own = LowRank(change.a[expert], change.b[expert, first : first + rows], change.scale)
            made[f"{module}.{expert}.{part}.weight"] = own
        first += rows
    return made
