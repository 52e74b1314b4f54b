"""compressed-tensors checkpoints (vLLM's family), and BitNet's packed ternary weights.

  pack-quantized          weight_packed (out, in * bits / 32) words, weight_scale (out, groups), for asymmetric ones
                          weight_zero_point (out * bits / 32, groups), packed down the outputs. Codes are unsigned:
                          2^(bits-1) stands for 0
  int-quantized           weight int8, weight_scale
  float-, naive-quantized weight E4M3, weight_scale one, (out, 1), or a block's
  nvfp4-pack-quantized    weight_packed two codes a byte, weight_scale E4M3, weight_global_scale, which divides
  mxfp4-pack-quantized    weight_packed two codes a byte, weight_scale E8M0
Which of them a module is, its own parts say; what config.json says of it must agree. Integers and mxfp4 are kept
exactly; the others as in float8.py. BitNet: weight (out / 4, in) bytes of four two-bit codes less one, rows of the
four quarters of the outputs; weight_scale divides, or multiplies where linear_class is autobitlinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError, shown
from .float8 import fp8, nvfp4
from .foreign import ForeignWeights, Module, modules, others, shift_codes, unpack_codes
from .gptq import _order
from .quantized_types import FLOATS, WORDS
from .repack import affine

PARTS = (
    *("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    "weight_global_scale",
)
FORMATS = (
    *("pack-quantized", "int-quantized", "float-quantized", "naive-quantized"),
    *("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision"),
)
MX_GROUP = 32


def read_compressed(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    form = written.get("format")
    if form not in FORMATS:
        raise ModelError(
            f"{file}: compressed-tensors of the format {shown(form)} are not read; {', '.join(FORMATS)} are."
        )
    bits, blocks = _groups(written, file)
    found = ForeignWeights()
    for module in modules(tensors, "weight_scale"):
        _read(module, bits, blocks, found)
    if not found.weights:
        raise ModelError(f"{file} says that weights are compressed-tensors, but no tensor is a weight_scale.")
    found.weights |= others(tensors, PARTS, found.weights)
    return found


def _groups(written: Mapping[str, Any], file: str) -> tuple[set[int], object]:
    """(bits of packed integers, size of fp8 blocks) over all groups of modules."""
    groups = written.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ModelError(f"{file}: quantization_config has no config_groups.")
    written_weights = [g.get("weights") for g in groups.values() if isinstance(g, Mapping)]
    schemes = [scheme for scheme in written_weights if isinstance(scheme, Mapping)]
    bits = {s["num_bits"] for s in schemes if s.get("type", "int") == "int" and s.get("num_bits") in (4, 8)}
    blocks = next((s["block_structure"] for s in schemes if s.get("block_structure")), None)
    return bits, blocks


def _read(module: Module, bits: set[int], blocks: object, found: ForeignWeights) -> None:
    name = f"{module.name}.weight"
    if module.has("weight_global_scale"):
        nvfp4(module, "weight_packed", 1 / module.take("weight_global_scale", mx.float32).reshape(-1)[0], found)
    elif not module.has("weight_packed"):
        codes = module.take("weight", mx.int8, mx.uint8, axes=2)
        if codes.dtype == mx.uint8:
            found.refit_values(name, fp8(module, "weight_scale", blocks))
        else:
            found.weights[name] = shift_codes(module, codes.view(mx.uint8) ^ 0x80, _row_scales(module, codes), 128, 8)
    elif module.take("weight_packed").dtype == mx.uint8:
        found.weights[name] = _mxfp4(module)
    else:
        _packed(module, bits, found)


def _row_scales(module: Module, codes: mx.array) -> mx.array:
    """(out, groups); one for the whole tensor becomes one a row."""
    scales = module.take("weight_scale", *FLOATS)
    scales = mx.broadcast_to(scales.reshape(1, 1), (codes.shape[0], 1)) if scales.size == 1 else scales
    if scales.ndim != 2 or scales.shape[0] != codes.shape[0]:
        raise module.fail(f"has weight_scale of shape {scales.shape} beside {codes.shape[0]} rows")
    return scales


def _packed(module: Module, bits: set[int], found: ForeignWeights) -> None:
    words = module.take("weight_packed", *WORDS, axes=2)
    shape = [int(n) for n in module.take("weight_shape").tolist()] if module.has("weight_shape") else None  # type: ignore[arg-type, union-attr]  # a list of two
    fits = [b for b in sorted(bits) if shape is None or shape == [words.shape[0], words.shape[1] * 32 // b]]
    if len(fits) != 1:
        raise module.fail(f"has weight_packed of shape {words.shape}, which is not {shape} in {sorted(bits)} bits")
    (width,) = fits
    codes, scales = unpack_codes(words, width), _row_scales(module, words)
    name = f"{module.name}.weight"
    order = _order(Renamed(module), codes.shape[1], scales.shape[1]) if module.has("weight_g_idx") else None
    zeros = None
    if module.has("weight_zero_point"):
        stored = module.take("weight_zero_point", *WORDS, axes=2)
        zeros = unpack_codes(mx.contiguous(stored.T), width).T
        if zeros.shape != scales.shape:
            raise module.fail(f"has weight_zero_point of shape {stored.shape} beside scales {scales.shape}")
    if order is None:
        found.weights[name] = shift_codes(module, codes, scales, 2 ** (width - 1) if zeros is None else zeros, width)
    else:
        middle = mx.array(2.0 ** (width - 1)) if zeros is None else zeros[:, order].astype(mx.float32)
        found.refit_values(name, scales.astype(mx.float32)[:, order] * (codes.astype(mx.float32) - middle))


class Renamed(Module):
    """The order of inputs has GPTQ's meaning under another name."""

    def __init__(self, module: Module) -> None:
        super().__init__(module.name, module._tensors)

    def has(self, part: str) -> bool:
        return super().has(f"weight_{part}")

    def take(self, part: str, *dtypes: mx.Dtype, axes: int | None = None) -> mx.array:
        return super().take(f"weight_{part}", *dtypes, axes=axes)


def _mxfp4(module: Module) -> QuantizedWeight:
    packed, scales = module.take("weight_packed", mx.uint8), module.take("weight_scale", mx.uint8)
    if packed.ndim < 2 or scales.shape != (*packed.shape[:-1], packed.shape[-1] * 2 // MX_GROUP):
        raise module.fail(f"has weight_packed of shape {packed.shape} beside scales {scales.shape}, which is not mxfp4")
    return QuantizedWeight(mx.contiguous(packed).view(mx.uint32), scales, None, "mxfp4", 4, MX_GROUP)


def read_bitnet(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    divides = written.get("linear_class", "bitlinear") != "autobitlinear"
    found = ForeignWeights()
    for module in modules(tensors, "weight_scale"):
        packed, scale = module.take("weight", mx.uint8, axes=2), module.take("weight_scale", *FLOATS)
        if scale.size != 1:
            raise module.fail(f"has weight_scale of shape {scale.shape}; there must be one")
        codes = mx.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], axis=0)
        one = scale.astype(mx.float32).reshape(1, 1)
        groups = next((codes.shape[1] // g for g in (128, 64, 32) if codes.shape[1] % g == 0), 0)
        if not groups:
            raise module.fail(f"has rows of {codes.shape[1]} values; multiples of 32 are read")
        scales = mx.broadcast_to(1 / one if divides else one, (codes.shape[0], groups))
        found.weights[f"{module.name}.weight"] = affine(codes, mx.contiguous(scales), -scales, 2)
    if not found.weights:
        raise ModelError(f"{file} says that weights are quantized by bitnet, but there is no weight_scale.")
    found.weights |= others(tensors, ("weight_scale",), found.weights)
    return found
