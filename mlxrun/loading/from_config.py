"""Weights of a model of which only config.json is here, as outlines: what they would be, to plan with.

Blocks ask for what their specs say they need. Of how each is stored the config tells less than files do: where it is
quantized, every matrix whose rows its groups divide is taken to be, in the usual number of bits; all else has the
config's type.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..families import Recipe
from ..nn.decoder import DecoderModel
from ..nn.params import OutlinedAsAsked
from ..ops.device import Device
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import Checkpoint
from ..weights.quantized import BITS, GROUPS

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def weights_from_config(checkpoint: Checkpoint, recipe: Recipe, device: Device) -> dict[str, Weight]:
    config = checkpoint.config
    dtype = DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), mx.bfloat16)
    bits, group = how_quantized(config)

    def outline(shape: tuple[int, ...], matrix: bool) -> Weight:
        if not matrix or bits is None or shape[-1] % group:
            return mx.zeros(shape, dtype)
        *rows, width = shape
        scales = mx.zeros((*rows, width // group), dtype)
        return QuantizedWeight(mx.zeros((*rows, width * bits // 32), mx.uint32), scales, scales, "affine", bits, group)

    found = OutlinedAsAsked(outline)
    DecoderModel(recipe.decoder, found, device, fold_offsets=not recipe.folded)
    return dict(found)


def how_quantized(config: Any) -> tuple[int | None, int]:
    """(bits, weights that share a scale); no bits: it is not."""
    said = config.get("quantization")
    if said is None and not config.get("quantization_config"):
        return None, 1
    bits, group = (said.get("bits"), said.get("group_size")) if isinstance(said, dict) else (None, None)
    if bits not in BITS or group not in GROUPS:
        raise ModelError("How its weights are quantized is told by its files, and only its config is here.")
    return bits, group
