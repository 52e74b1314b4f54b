"""From files to canonical arrays: `open_checkpoint` reads headers, `read_weights` carries out a recipe's rules.

Both are all or nothing: a file that cannot be believed is a ModelError, and arrays stay lazy until used.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..families.common import Recipe
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError, shown
from .apply import apply_rules
from .checkpoint import Checkpoint, Hear, ignore_mapped, open_checkpoint
from .outline import outline
from .quantized import FLOATS, gather_parts

__all__ = ["Checkpoint", "apply_rules", "gather_parts", "open_checkpoint", "outline_weights", "read_weights"]


def read_weights(checkpoint: Checkpoint, recipe: Recipe, hear: Hear = ignore_mapped) -> dict[str, Weight]:
    """Canonical name -> weight; `hear` is told of each file what came of mapping it."""
    return _canonical(checkpoint.tensors(hear), checkpoint, recipe)


def outline_weights(checkpoint: Checkpoint, recipe: Recipe, *, centred: bool = False) -> dict[str, Weight]:
    """As `read_weights`, of arrays that must not be evaluated; see `outline`."""
    return _canonical(outline(checkpoint, centred=centred), checkpoint, recipe)


def _canonical(tensors: Mapping[str, Weight], checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Weight]:
    weights = apply_rules(recipe.rules, gather_parts(tensors, checkpoint.config))
    _refuse_other_layers(weights, len(recipe.decoder.layers))
    for name, weight in weights.items():
        if not isinstance(weight, QuantizedWeight) and weight.dtype not in FLOATS:
            kind = str(weight.dtype).removeprefix("mlx.core.")
            raise ModelError(f"The weight {name} is stored as {kind}; it must be float32, float16 or bfloat16.")
    return weights


def _refuse_other_layers(weights: Mapping[str, Weight], layers: int) -> None:
    """A number in a tensor's name may be anything: too large, of another script, of thousands of digits."""
    known = {str(number) for number in range(layers)}
    strange = [name for name in weights if name.startswith("layers.") and name.split(".")[1] not in known]
    if strange:
        raise ModelError(
            f"This model has {layers} layers, but the checkpoint has a weight of another one: {shown(strange[0])}."
        )
