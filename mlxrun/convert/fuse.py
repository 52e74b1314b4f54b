"""What an adapter changes, added to a model's weights for good: W + scale * b @ a in float32, rounded once.

A weight that is quantized is quantized anew in its own layout, so it is further from the sum than the adapter beside
the model is: whoever fuses measures that. Lazy, by the names that the tensors have in a file; knows no command.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..adapters.canonical import canonical_changes
from ..adapters.files import AdapterFile, read_adapter_file
from ..adapters.pairs import changes_of
from ..families import resolve
from ..families.config import Dialect
from ..loading.open import recipe_of
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError, shown
from ..weights import Checkpoint
from ..weights.apply import apply_to_adapter
from ..weights.lowrank import LowRank
from .from_gguf import changes_in_hf_names
from .weight_layout import of, quantize

EMBEDDING, HEAD = "embed.weight", "head.weight"


class Fusion:
    """What becomes of a model's weights, by their names in Hugging Face's or mlx-lm's files."""

    def __init__(self, path: Path, changes: Mapping[str, LowRank]) -> None:
        self.path, self.changes = path, changes
        self.requantized = False  # whether what it was handed last had quantized weights that change

    def __call__(self, found: Mapping[str, Weight], dtype: mx.Dtype | None, *, anew: bool) -> dict[str, Weight]:
        """`dtype`: of what is not quantized; None: as it was. `anew`: all is about to be quantized otherwise."""
        missing = sorted(self.changes.keys() - found.keys())
        if missing:
            raise ModelError(f"{self.path} changes {shown(missing[0])}, which the model's files do not have.")
        made, self.requantized = dict(found), any(isinstance(found[name], QuantizedWeight) for name in self.changes)
        for name, change in self.changes.items():
            if tuple(found[name].shape) != change.shape:
                raise ModelError(
                    f"{self.path} changes {shown(name)} as if it were {change.shape}; this model's is "
                    f"{tuple(found[name].shape)}: it was trained for another model."
                )
            made[name] = _sum(name, found[name], change, dtype, anew)
        return made


def fused_with(checkpoint: Checkpoint, path: Path) -> Fusion:
    """Or a ModelError, where it is not this model's or what it changes cannot be changed for good."""
    file = read_adapter_file(path)
    recipe = recipe_of(checkpoint)
    canonical = canonical_changes(file, checkpoint, recipe)
    if recipe.decoder.tied and canonical.keys() & {EMBEDDING, HEAD}:
        raise ModelError(
            f"{file.path} changes the embedding or the head, which are one matrix in this model: fused, both would "
            "change. Serve the adapter beside the model."
        )
    changes = changes_of(file)
    if file.format == "gguf":
        return Fusion(file.path, changes_in_hf_names(checkpoint, changes))
    own: Dialect = "mlx" if checkpoint.dialect == "mlx" else "hf"
    if (trained := _dialect_of(file)) != own:
        _check_same(file, checkpoint, changes, own, trained)
    return Fusion(file.path, changes)


def _dialect_of(file: AdapterFile) -> Dialect:
    return "hf" if file.format == "peft" else "mlx"


def _check_same(
    file: AdapterFile, checkpoint: Checkpoint, changes: Mapping[str, LowRank], own: Dialect, trained: Dialect
) -> None:
    """Every name must mean the same matrix, the same way round, in the model's files as where it was trained."""
    config = _config_of(checkpoint)
    rules = {dialect: resolve(config, dialect).rules for dialect in (own, trained)}
    for name, change in changes.items():
        there, here = (
            {} if made is None else made for made in (_meant(rules[d], name, change) for d in (trained, own))
        )
        if not here or here.keys() != there.keys() or not all(_alike(here[key], there[key]) for key in here):
            how = "mlxrun convert MODEL -o FOLDER makes such a one" if trained == "mlx" else "take that one"
            whose = "mlx-lm's files" if trained == "mlx" else "Hugging Face's files"
            raise ModelError(
                f"{file.path} changes {shown(name)} as it is in {whose}, and this model's files have it in another "
                f"form: fuse it with the model in that form ({how})."
            )


def _config_of(checkpoint: Checkpoint) -> Mapping[str, Any]:
    if checkpoint.dialect != "gguf":
        return checkpoint.config
    from ..families.gguf import config_of

    return config_of(checkpoint.metadata, checkpoint.shapes)[0]


def _meant(rules: Any, name: str, change: LowRank) -> dict[str, LowRank] | None:
    try:
        return apply_to_adapter(rules, {name: change})
    except ModelError:
        return None


def _alike(one: LowRank, other: LowRank) -> bool:
    same = one.shape == other.shape and one.scale == other.scale
    return same and all(bool(mx.array_equal(a, b)) for a, b in ((one.a, other.a), (one.b, other.b)))


def _sum(name: str, weight: Weight, change: LowRank, dtype: mx.Dtype | None, anew: bool) -> Weight:
    whole = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    made = whole + change.whole()
    if change.magnitude is not None:
        lengths = mx.linalg.norm(made, axis=-1)
        made = made * (change.magnitude.astype(mx.float32) / lengths)[..., None]
    if not isinstance(weight, QuantizedWeight):
        return made.astype(dtype or weight.dtype)
    kind = mx.bfloat16 if weight.biases is None else weight.scales.dtype
    if anew:
        return made.astype(dtype or kind)
    if not weight.in_mlx or weight.shape[-1] % weight.group:
        raise ModelError(f"{shown(name)} is quantized in a layout that is not written: --quantize BITS says another.")
    new = quantize(made, of(weight))
    return (
        new if weight.biases is None else new.rows(lambda part: part.astype(kind) if part.dtype == mx.float32 else part)
    )
