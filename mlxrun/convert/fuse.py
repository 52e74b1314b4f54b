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
from ..adapters.whole import expert_changes, expert_modules, whole_weights
from ..families import resolve
from ..families.config import Dialect
from ..loading.open import recipe_of
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError, shown
from ..weights import Checkpoint
from ..weights.apply import apply_rules, apply_to_adapter
from ..weights.lowrank import LowRank
from .from_gguf import changes_in_hf_names
from .weight_layout import of, quantize

EMBEDDING, HEAD = "embed.weight", "head.weight"


class Fusion:
    """What becomes of a model's weights, by their names in Hugging Face's or mlx-lm's files."""

    def __init__(self, file: AdapterFile, changes: Mapping[str, LowRank]) -> None:
        self._file, self._changes = file, changes
        self.requantized = False  # whether what it was handed last had quantized weights that change

    def __call__(self, found: Mapping[str, Weight], dtype: mx.Dtype | None, *, anew: bool) -> dict[str, Weight]:
        """`dtype`: of what is not quantized; None: as it was. `anew`: all is about to be quantized otherwise."""
        whole = whole_weights(self._file)
        changes = {**self._changes, **expert_changes(self._file, {name: tuple(w.shape) for name, w in found.items()})}
        wanted = {name: tuple(one.shape) for name, one in whole.items()}
        self._check(found, wanted | {name: one.shape for name, one in changes.items()})
        names = whole.keys() | changes.keys()
        self.requantized = any(isinstance(found[name], QuantizedWeight) for name in names)
        made = dict(found)
        for name in names:
            made[name] = _rounded(name, _sum(found[name], whole.get(name), changes.get(name)), found[name], dtype, anew)
        return made

    def _check(self, found: Mapping[str, Weight], wanted: Mapping[str, tuple[int, ...]]) -> None:
        missing = sorted(wanted.keys() - found.keys())
        if missing:
            raise ModelError(f"{self._file.path} changes {shown(missing[0])}, which the model's files do not have.")
        for name, shape in wanted.items():
            if tuple(found[name].shape) != shape:
                raise ModelError(
                    f"{self._file.path} changes {shown(name)} as if it were {shape}; this model's is "
                    f"{tuple(found[name].shape)}: it was trained for another model."
                )


def fused_with(checkpoint: Checkpoint, path: Path) -> Fusion:
    """Or a ModelError, where it is not this model's or what it changes cannot be changed for good."""
    file = read_adapter_file(path)
    recipe = recipe_of(checkpoint)
    whole = whole_weights(file)
    canonical = canonical_changes(file, checkpoint, recipe).keys() | _canonical_names(whole, checkpoint)
    if recipe.decoder.tied and file.format != "mlx" and canonical & {EMBEDDING, HEAD}:  # mlx-lm changes both
        raise ModelError(
            f"{file.path} changes the embedding or the head, which are one matrix in this model: fused, both would "
            "change, and that is not what was trained."
        )
    changes = changes_of(file)
    if file.format == "gguf":
        return Fusion(file, changes_in_hf_names(checkpoint, changes))
    own: Dialect = "mlx" if checkpoint.dialect == "mlx" else "hf"
    trained: Dialect = "hf" if file.format == "peft" else "mlx"
    if trained != own:
        if other := [*whole, *expert_modules(file)]:
            raise _in_another_form(file, other[0], trained)
        _check_same(file, checkpoint, changes, own, trained)
    return Fusion(file, _with_words(file, changes, checkpoint) if trained == "mlx" else changes)


def _with_words(file: AdapterFile, changes: Mapping[str, LowRank], checkpoint: Checkpoint) -> dict[str, LowRank]:
    """A table of words lies the other way round than matrices do in mlx-lm's adapters."""
    rules, made = resolve(_config_of(checkpoint), "mlx").rules, dict(changes)
    for name, change in changes.items():
        if (_meant(rules, name, change) or {}).keys() == {EMBEDDING}:
            turned = change.transposed()
            if turned is None:
                raise ModelError(f"{file.path}: DoRA of the embedding ({shown(name)}) is not done here.")
            made[name] = turned
    return made


def _canonical_names(whole: Mapping[str, mx.array], checkpoint: Checkpoint) -> set[str]:
    rules = resolve(_config_of(checkpoint), "hf").rules if whole else ()
    return set(apply_rules(rules, whole)) if whole else set()


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
            raise _in_another_form(file, name, trained)


def _in_another_form(file: AdapterFile, name: str, trained: Dialect) -> ModelError:
    how = "mlxrun convert MODEL -o FOLDER makes such a one" if trained == "mlx" else "take that one"
    whose = "mlx-lm's files" if trained == "mlx" else "Hugging Face's files"
    return ModelError(
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


def _sum(weight: Weight, whole: mx.array | None, change: LowRank | None) -> mx.array:
    """In float32."""
    if whole is None:
        made = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)
    else:
        made = whole.astype(mx.float32)
    if change is None:
        return made
    made = made + change.whole()
    if change.magnitude is None:
        return made
    return made * (change.magnitude.astype(mx.float32) / mx.linalg.norm(made, axis=-1))[..., None]


def _rounded(name: str, made: mx.array, weight: Weight, dtype: mx.Dtype | None, anew: bool) -> Weight:
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
