"""From files to canonical arrays: `open_checkpoint` reads headers, `read_weights` carries out a recipe's rules.

Both are all or nothing: a file that cannot be believed is a ModelError, and arrays stay lazy until used.
"""

from __future__ import annotations

from ..families.common import Recipe
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from .apply import apply_rules
from .checkpoint import Checkpoint, open_checkpoint
from .quantized import FLOATS, gather_parts

__all__ = ["Checkpoint", "apply_rules", "gather_parts", "open_checkpoint", "read_weights"]


def read_weights(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Weight]:
    """Canonical name -> weight."""
    weights = apply_rules(recipe.rules, gather_parts(checkpoint.tensors(), checkpoint.config))
    for name, weight in weights.items():
        if not isinstance(weight, QuantizedWeight) and weight.dtype not in FLOATS:
            kind = str(weight.dtype).removeprefix("mlx.core.")
            raise ModelError(f"The weight {name} is stored as {kind}; it must be float32, float16 or bfloat16.")
    return weights
