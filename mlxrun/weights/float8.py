"""Eight-bit floats with one scale a tensor, a row or a block, and four-bit floats under a scale of scales.

  fp8 (DeepSeek, Mistral)       X.weight E4M3, X.weight_scale_inv; blocks of `weight_block_size`, or one for all
  modelopt (NVIDIA)             FP8: X.weight E4M3, X.weight_scale;  NVFP4: X.weight bytes of two codes,
                                X.weight_scale E4M3 a group of 16, X.weight_scale_2 one float32
Both are multiplied: value = code * scale (* scale_2). MLX's own eight-bit floats have powers of two for scales and
its nvfp4 no second scale, so these weights are refitted to affine ones of eight bits, and the loss can be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..ops.quantized import Weight
from ..spec import ModelError, shown
from .foreign import ForeignWeights, Module, modules, others
from .quantized_types import FLOATS
from .repack import center_codes

PARTS = ("weight_scale_inv", "weight_scale", "weight_scale_2")
SIZES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = (*SIZES, *(-size for size in SIZES))
NV_GROUP = 16
NV_STEPS = 20  # of eight bits to one unit: 6.0 is 120


def read_fp8(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    block = written.get("weight_block_size")
    found = ForeignWeights()
    for module in modules(tensors, "weight_scale_inv"):
        found.refit_values(f"{module.name}.weight", fp8(module, "weight_scale_inv", block))
    if not found.weights:
        raise ModelError(f"{file} says that weights are quantized by fp8, but there is no weight_scale_inv.")
    found.weights |= others(tensors, PARTS, found.weights)
    return found


def read_modelopt(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    inner = written.get("quantization", written)
    method = inner.get("quant_algo") if isinstance(inner, Mapping) else None
    if method not in ("FP8", "NVFP4"):
        raise ModelError(f"{file}: ModelOpt's {shown(method)} is not read; FP8 and NVFP4 are.")
    found = ForeignWeights()
    for module in modules(tensors, "weight_scale"):
        if method == "FP8":
            found.refit_values(f"{module.name}.weight", fp8(module, "weight_scale", None))
        else:
            factor = module.take("weight_scale_2", mx.float32)
            nvfp4(module, "weight", factor.reshape(-1)[0], found)
    if not found.weights:
        raise ModelError(f"{file} says that weights are quantized by modelopt, but there is no weight_scale.")
    found.weights |= others(tensors, PARTS, found.weights)
    return found


def e4m3(codes: mx.array) -> mx.array:
    return mx.from_fp8(codes, dtype=mx.float32)


def scale_values(module: Module, part: str) -> mx.array:
    """Float32; bytes are powers of two."""
    scale = module.take(part, *FLOATS, mx.uint8)
    return (scale.astype(mx.uint32) << 23).view(mx.float32) if scale.dtype == mx.uint8 else scale.astype(mx.float32)


def fp8(module: Module, part: str, block: object) -> mx.array:
    """The values (out, in), or of a stack of experts."""
    codes, scale = module.take("weight", mx.uint8), scale_values(module, part)
    if codes.ndim < 2:
        raise module.fail(f"has a weight of shape {codes.shape}, which is no matrix")
    if codes.shape[-1] % 32:
        raise module.fail(f"has rows of {codes.shape[-1]} values; multiples of 32 are read")
    out, width = codes.shape[-2:]
    if scale.size == 1:
        return e4m3(codes) * scale.reshape(-1)[0]
    if scale.shape == (*codes.shape[:-1], 1) or scale.shape == codes.shape[:-1]:
        return e4m3(codes) * scale.reshape(*codes.shape[:-1], 1)
    if not (isinstance(block, (list, tuple)) and len(block) == 2 and all(type(n) is int and n > 0 for n in block)):
        raise module.fail(f"has {part} of shape {scale.shape} beside a weight {codes.shape}, and no block size is said")
    rows, columns = block
    if scale.shape != (*codes.shape[:-2], -(-out // rows), -(-width // columns)):
        raise module.fail(f"has {part} of shape {scale.shape}, which does not cover {codes.shape} in blocks of {block}")
    spread = mx.repeat(mx.repeat(scale, rows, axis=-2)[..., :out, :], columns, axis=-1)[..., :width]
    return e4m3(codes) * spread


def nvfp4(module: Module, part: str, factor: mx.array, found: ForeignWeights) -> None:
    """Four-bit floats in groups of 16; of two neighbouring groups the one with the larger scale keeps its values."""
    packed, scales = module.take(part, mx.uint8), module.take("weight_scale", mx.uint8)
    if packed.ndim < 2 or scales.shape != (*packed.shape[:-1], packed.shape[-1] * 2 // NV_GROUP):
        raise module.fail(f"has {part} of shape {packed.shape} beside scales {scales.shape}, which is not nvfp4")
    if packed.shape[-1] % NV_GROUP:
        raise module.fail(f"has rows of {packed.shape[-1] * 2} values; multiples of 32 are read")
    steps = e4m3(scales) * factor
    values = e2m1(packed) * mx.repeat(steps, NV_GROUP, axis=-1)
    larger = mx.abs(steps).reshape(*steps.shape[:-1], steps.shape[-1] // 2, 2).max(axis=-1)
    name = f"{module.name}.weight"
    found.weights[name], found.lossy[name] = center_codes(values, larger / NV_STEPS, 8), values


def e2m1(packed: mx.array) -> mx.array:
    """Two codes a byte, the first one low."""
    codes = mx.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], packed.shape[-1] * 2)
    return mx.array(E2M1)[codes]
