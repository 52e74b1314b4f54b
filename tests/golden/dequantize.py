"""What packed codes mean, in NumPy: MLX's affine layout and the mxfp4, mxfp8 and nvfp4 formats.

An independent reading for the tests; neither mlxrun nor MLX is used. Codes lie along the last axis as one
little-endian stream of bits, and every group of inputs has one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint

Floats = NDArray[np.float32]
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])


def e4m3(codes: NDArray[Any]) -> Floats:
    """8-bit floats without infinities: sign, 4 bits of exponent (bias 7), 3 of fraction."""
    exponent, fraction = (codes >> 3) & 15, (codes & 7).astype(np.float32)
    size = np.where(
        exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent.astype(np.float32) - 7)
    )
    return np.where(codes & 128, -size, size).astype(np.float32)


def e8m0(codes: NDArray[Any]) -> Floats:
    return np.exp2(codes.astype(np.float32) - 127)


def codes_of(packed: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(*packed.shape[:-1], -1, bits), axis=-1, bitorder="little")[..., 0]


def dequantize(
    packed: NDArray[Any], scales: NDArray[Any], biases: NDArray[Any] | None, how: Mapping[str, Any]
) -> Floats:
    mode, group = how.get("mode", "affine"), how["group_size"]
    codes = codes_of(packed, how["bits"])
    if mode == "affine":
        assert biases is not None
        values, scale = codes.astype(np.float32), scales.astype(np.float32)
    else:
        values = E2M1[codes] if how["bits"] == 4 else e4m3(codes)
        scale = e4m3(scales) if mode == "nvfp4" else e8m0(scales)
    grouped = values.reshape(*values.shape[:-1], -1, group) * scale[..., None]
    if biases is not None:
        grouped = grouped + biases.astype(np.float32)[..., None]
    return grouped.reshape(values.shape)


def dequantized(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint in float32, with nothing in its config about quantization."""
    config = {key: value for key, value in checkpoint.config.items() if not key.startswith("quantization")}
    said = checkpoint.config["quantization"]
    weights = dict(checkpoint.weights)
    for name in [name for name in weights if name.endswith(".scales")]:
        module = name.removesuffix(".scales")
        parts = [weights.pop(f"{module}.{part}", None) for part in ("weight", "scales", "biases")]
        how = said[module] if isinstance(said.get(module), dict) else said
        weights[f"{module}.weight"] = dequantize(parts[0], parts[1], parts[2], how)
    return Checkpoint(config, weights, checkpoint.format)
