"""What is trained: a pair of small matrices beside each matrix that is named, under the names that PEFT's files have.

They reach the blocks by the family's own rules, as an adapter that is loaded does, so what is trained is what will be
served, fused and cut matrices included. DoRA's lengths divide by those of the sum, through which no gradient goes.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import mlx.core as mx

from ..adapters.canonical import Canonical, canonical_names
from ..loading.open import OpenedModel
from ..nn.linear import AdaptedLinear
from ..ops.adapters import Adapter, AdapterPart
from ..ops.matmul import matmul
from ..ops.quantized import QuantizedWeight
from ..spec import ModelError, shown
from ..weights import read_weights
from ..weights.lowrank import LowRank
from ..weights.outline import outline
from ..weights.quantized import gather_parts
from .config import TrainConfig

Trained = dict[
    str, mx.array
]  # by "module/lora_A" and so on, where a module's dots are slashes: MLX's trees cut at dots
A, B, LENGTH = "lora_A", "lora_B", "lora_magnitude_vector"
CHOOSES = ".index."  # an indexer's matrices only choose keys, and a choice has no gradient
# matrices of models whose files do not tell the names of Hugging Face's: what most families call them
USUAL = tuple(
    f"model.layers.{{}}.{name}"
    for name in (
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
        *("self_attn.qkv_proj", "mlp.gate_up_proj", "self_attn.dense", "mlp.fc1", "mlp.fc2"),
    )
)


@dataclass(frozen=True)
class Pairs:
    """Where they are, and how they become an adapter."""

    shapes: Mapping[str, tuple[int, int]]  # of the matrix of each module (out, in)
    places: Mapping[str, AdaptedLinear]  # by canonical name
    canonical: Canonical
    rank: int
    scale: float
    dora: bool
    squares: Mapping[str, mx.array] = field(default_factory=dict)  # for DoRA by canonical name, (out,): each row's sum

    @cached_property
    def changed(self) -> frozenset[str]:
        """Canonical names."""
        blank = {m: LowRank(mx.zeros((1, shape[1])), mx.zeros((shape[0], 1)), 1.0) for m, shape in self.shapes.items()}
        return frozenset(self.canonical({f"{module}.weight": change for module, change in blank.items()}))

    def drawn(self, seed: int, lengths: Mapping[str, mx.array] | None = None) -> Trained:
        """As PEFT begins: the sum is nothing yet. `lengths`: of the rows of each module's matrix, for DoRA."""
        keys = mx.random.split(mx.random.key(seed), len(self.shapes))
        made: Trained = {}
        for key, (module, (out, inputs)) in zip(keys, sorted(self.shapes.items()), strict=True):
            most, name = 1 / math.sqrt(inputs), module.replace(".", "/")
            made[f"{name}/{A}"] = mx.random.uniform(-most, most, (self.rank, inputs), key=key)
            made[f"{name}/{B}"] = mx.zeros((out, self.rank))
            if lengths is not None:
                made[f"{name}/{LENGTH}"] = lengths[module]
        return made

    def adapter(self, trained: Mapping[str, mx.array]) -> Adapter:
        """Gradients go through it."""
        changes = {}
        for module in self.shapes:
            name = module.replace(".", "/")
            own = trained[f"{name}/{A}"], trained[f"{name}/{B}"], self.scale, trained.get(f"{name}/{LENGTH}")
            changes[f"{module}.weight"] = LowRank(*own)
        parts = {name: self._part(name, change) for name, change in self.canonical(changes).items()}
        return Adapter("trained", "", parts)

    def _part(self, name: str, change: LowRank) -> AdapterPart:
        gain = None
        if change.magnitude is not None:
            place = self.places[name]
            a, b = mx.stop_gradient(change.a), mx.stop_gradient(change.b)
            across = (b * matmul(a, place.weight, place.device).T).sum(axis=-1)  # of each row with what is added
            own = (b @ (a @ a.T) * b).sum(axis=-1)
            squares = self.squares[name] + 2 * self.scale * across + self.scale**2 * own
            gain = change.magnitude * mx.rsqrt(squares)
        return AdapterPart(change.a, change.b, change.scale, gain)


def peft_tensors(trained: Mapping[str, mx.array]) -> dict[str, mx.array]:
    found = {}
    for key, array in trained.items():
        module, part = key.rsplit("/", 1)
        name = f"base_model.model.{module.replace('/', '.')}.{part}"
        found[name if part == LENGTH else f"{name}.weight"] = array
    return found


def peft_config(config: TrainConfig, modules: Iterable[str]) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.model,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": config.method == "dora",
        "target_modules": sorted({leaf(module) for module in modules}),
        "inference_mode": True,
    }


def leaf(module: str) -> str:
    return module.rpartition(".")[2]


# ---- which matrices -----------------------------------------------------------------------------


def find_pairs(opened: OpenedModel, places: Mapping[str, AdaptedLinear], config: TrainConfig) -> Pairs:
    """`places`: the matrices that adapters may change; of arrays without bytes, where nothing is trained yet."""
    canonical = canonical_names("hf", opened.checkpoint, opened.recipe)
    places = {name: place for name, place in places.items() if CHOOSES not in name}
    shapes = {}
    for module, shape in _candidates(opened, canonical, places):
        if _fits(canonical, module, shape, places):
            shapes[module] = shape
    chosen = _chosen(shapes, config.targets)
    return Pairs(chosen, places, canonical, config.rank, config.alpha / config.rank, config.method == "dora")


def _candidates(
    opened: OpenedModel, canonical: Canonical, places: Mapping[str, AdaptedLinear]
) -> Iterable[tuple[str, tuple[int, int]]]:
    checkpoint = opened.checkpoint
    if checkpoint.dialect != "gguf":
        for name, weight in gather_parts(outline(checkpoint), checkpoint.config).items():
            if name.endswith(".weight") and len(weight.shape) == 2:
                yield name.removesuffix(".weight"), (weight.shape[0], weight.shape[1])
        return
    for number in range(len(opened.recipe.decoder.layers)):
        own = {name: place for name, place in places.items() if name.startswith(f"layers.{number}.")}
        for form in USUAL:
            for name, place in own.items():
                out, inputs = place.weight.shape
                if _fits(canonical, form.format(number), (out, inputs), {name: place}):
                    yield form.format(number), (out, inputs)


def _fits(canonical: Canonical, module: str, shape: tuple[int, int], places: Mapping[str, AdaptedLinear]) -> bool:
    """Whether all that it becomes is there, may change, and lies as it does in the file."""
    out, inputs = shape
    try:
        made = canonical({f"{module}.weight": LowRank(mx.zeros((1, inputs)), mx.ones((out, 1)), 1.0)})
    except ValueError:
        return False
    return all(
        name in places and change.shape == tuple(places[name].weight.shape) and not change.a.any().item()
        for name, change in made.items()
    )


def _chosen(shapes: Mapping[str, tuple[int, int]], targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    if not shapes:
        raise ModelError("This model has no matrix whose name among Hugging Face's is known: train that checkpoint.")
    if not targets or targets == ("all",):
        return dict(shapes)
    leaves = sorted({leaf(module) for module in shapes})
    for target in targets:
        if not any(_ends(module, target) for module in shapes):
            near = difflib.get_close_matches(target, leaves, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(leaves)}."
            raise ModelError(f"targets: no matrix that can be trained is called {shown(target)}; {hint}")
    return {module: shape for module, shape in shapes.items() if any(_ends(module, target) for target in targets)}


def _ends(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


# ---- rows' lengths, for DoRA --------------------------------------------------------------------


def row_lengths(pairs: Pairs) -> dict[str, mx.array] | None:
    """Of each module's matrix as its file has it, whose rows the model may hold in several pieces and another order."""
    if not pairs.dora:
        return None
    found = {}
    for module, (out, inputs) in pairs.shapes.items():
        change = LowRank(mx.zeros((1, inputs)), mx.zeros((out, 1)), 1.0, mx.arange(out, dtype=mx.float32))
        lengths = mx.zeros(out)
        for name, part in pairs.canonical({f"{module}.weight": change}).items():
            assert part.magnitude is not None
            lengths[part.magnitude.astype(mx.int32)] = mx.sqrt(pairs.squares[name])
        found[module] = lengths
    return found


def row_squares(opened: OpenedModel, names: frozenset[str]) -> dict[str, mx.array]:
    """Of those weights: the sum of each row's squares."""
    found = {}
    for name, weight in read_weights(opened.checkpoint, opened.recipe).items():
        if name in names:
            whole = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight
            found[name] = mx.square(whole.astype(mx.float32)).sum(axis=-1)
            mx.eval(found[name])
    return found
