"""What an adapter changes, by the canonical names of the model that is opened: the family's own rules tell them.

A GGUF model takes an adapter that was trained on the Hugging Face checkpoint, by the recipe's rules for that; where
llama.cpp turned the rows of queries and keys round, theirs are turned as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import mlx.core as mx

from ..families import Recipe, resolve
from ..families.config import Dialect
from ..families.gguf import config_of
from ..spec import Attention, Decoder, ModelError, Rope
from ..weights.apply import apply_to_adapter
from ..weights.checkpoint import Checkpoint
from ..weights.lowrank import LowRank
from .files import AdapterFile
from .pairs import changes_of

Canonical = Callable[[Mapping[str, LowRank]], dict[str, LowRank]]


def canonical_changes(file: AdapterFile, checkpoint: Checkpoint, recipe: Recipe) -> dict[str, LowRank]:
    changes = changes_of(file)
    if not file.tensors:
        raise ModelError(f"{file.path} changes nothing: it has no tensors.")
    if file.format == "gguf":
        if checkpoint.dialect != "gguf":
            raise ModelError(f"{file.path.name} is for a GGUF model; {checkpoint.path} is none.")
        return apply_to_adapter(recipe.rules, changes)
    return canonical_names("hf" if file.format == "peft" else "mlx", checkpoint, recipe)(changes)


def canonical_names(dialect: Dialect, checkpoint: Checkpoint, recipe: Recipe) -> Canonical:
    """From the names that a checkpoint of that dialect has to those of this model."""
    if checkpoint.dialect != "gguf":
        own = recipe if checkpoint.dialect == dialect else resolve(checkpoint.config, dialect)
        return partial(apply_to_adapter, own.rules)
    config, _ = config_of(checkpoint.metadata, checkpoint.shapes)
    trained = resolve(config, dialect)
    return lambda changes: _turned(apply_to_adapter(trained.rules, changes), trained.decoder, recipe.decoder)


def _turned(changes: Mapping[str, LowRank], trained: Decoder, stored: Decoder) -> dict[str, LowRank]:
    """Rows of q and k in the order in which a GGUF file has them."""
    made = dict(changes)
    for number, (one, other) in enumerate(zip(trained.layers, stored.layers, strict=True)):
        if not isinstance(one.mixer, Attention) or not isinstance(other.mixer, Attention):
            continue
        there, here = one.mixer.rope, other.mixer.rope
        if there is None or here is None or there.interleaved == here.interleaved:
            continue
        for name in ("q", "k"):
            key = f"layers.{number}.mixer.{name}.weight"
            if key in made:
                by_head = partial(_by_head, order=_neighbours(one.mixer.head_dim, here))
                made[key] = made[key].changed(0, by_head)
    return made


def _neighbours(dim: int, rope: Rope) -> list[int]:
    """Of a head's rows: those that turn together, which lie half a head apart, side by side."""
    half = len(rope.freqs)
    return [*(at + side * half for at in range(half) for side in (0, 1)), *range(2 * half, dim)]


def _by_head(rows: mx.array, axis: int, order: list[int]) -> mx.array:
    heads = rows.reshape(-1, len(order), *rows.shape[1:])
    return mx.contiguous(heads[:, mx.array(order)].reshape(rows.shape))
