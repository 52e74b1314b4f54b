"""GPTQ and AWQ checkpoints: four-bit (GPTQ also 2, 3 and 8) codes with a scale and a zero a group.

GPTQ: qweight (in * bits / 32, out), a stream of codes down the inputs; qzeros (groups, out * bits / 32); scales
(groups, out); g_idx (in,), the group of each input. Its first format stores zeros less one, the second as they are.
AWQ (gemm): qweight (in, out / 8) and qzeros (groups, out / 8), eight outputs a word in the order 0 2 4 6 1 3 5 7.
Both mean scale * (code - zero), which is affine, so nothing is lost. With act-order inputs of a group do not lie
together and MLX's groups cannot be theirs: such weights are refitted to eight bits, and the loss can be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..ops.quantized import Weight
from ..spec import ModelError, shown
from .foreign import ForeignWeights, Module, modules, number, others, shift_codes, unpack_codes
from .quantized_types import FLOATS, WORDS

PARTS = ("qweight", "qzeros", "scales", "g_idx")
AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where in a word the outputs 0, 1, 2 ... lie


def read_gptq(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    bits = number(written, "bits", (2, 3, 4, 8), file)
    form = written.get("checkpoint_format", "gptq")
    if form not in ("gptq", "gptq_v2"):
        raise ModelError(f"{file}: GPTQ weights in the format {shown(form)} are not read; gptq and gptq_v2 are.")
    found = ForeignWeights()
    for module in modules(tensors, "qweight"):
        _gptq(module, bits, 1 if form == "gptq" else 0, found)
    return _complete(tensors, found, file, "gptq")


def _gptq(module: Module, bits: int, less: int, found: ForeignWeights) -> None:
    packed = module.take("qweight", *WORDS, axes=2).T  # (out, words)
    scales = module.take("scales", *FLOATS, axes=2).T  # (out, groups)
    width = packed.shape[1] * 32 // bits
    if packed.shape[1] * 32 % (bits * 32) or packed.shape[0] != scales.shape[0]:
        raise module.fail(f"has qweight {packed.T.shape} beside scales {scales.T.shape}, which is not {bits} bits")
    zeros = module.take("qzeros", *WORDS, axes=2)
    if zeros.shape != (scales.shape[1], scales.shape[0] * bits // 32):
        raise module.fail(f"has qzeros of shape {zeros.shape} beside scales {scales.T.shape}, which is not {bits} bits")
    zeros = ((unpack_codes(zeros, bits) + less) & (2**bits - 1)).T
    codes = unpack_codes(mx.contiguous(packed), bits)
    name, order = f"{module.name}.weight", _order(module, width, scales.shape[1])
    if order is None:
        found.weights[name] = shift_codes(module, codes, scales, zeros, bits)
    else:
        found.refit_values(name, scales.astype(mx.float32)[:, order] * (codes.astype(mx.float32) - zeros[:, order]))


def _order(module: Module, width: int, groups: int) -> mx.array | None:
    """The group of each input, where inputs do not lie group after group."""
    if not module.has("g_idx"):
        return None
    order = module.take("g_idx", mx.int32, mx.int64, mx.uint32, axes=1)
    if order.size != width:
        raise module.fail(f"has g_idx of {order.size} inputs beside rows of {width}")
    if not bool((order >= 0).all()) or not bool((order < groups).all()):
        raise module.fail(f"has g_idx that names a group beyond its {groups}")
    usual = width % groups == 0 and bool((order == mx.arange(width) // (width // groups)).all())
    return None if usual else order


def read_awq(tensors: Mapping[str, Weight], written: Mapping[str, Any], file: str) -> ForeignWeights:
    number(written, "bits", (4,), file) if "bits" in written else number(written, "w_bit", (4,), file)
    version = str(written.get("version", "gemm")).lower()
    if version != "gemm":
        raise ModelError(f"{file}: AWQ weights of the version {shown(version)} are not read; gemm is.")
    found = ForeignWeights()
    for module in modules(tensors, "qweight"):
        codes, scales = _outputs(module, "qweight").T, module.take("scales", *FLOATS, axes=2).T
        zeros = _outputs(module, "qzeros").T if module.has("qzeros") else None
        shapes = {codes.shape[0], scales.shape[0]} | (set() if zeros is None else {zeros.shape[0]})
        if len(shapes) > 1 or (zeros is not None and zeros.shape != scales.shape):
            raise module.fail(f"has parts of {sorted(shapes)} outputs, which must be alike")
        made = shift_codes(module, codes, scales, 8 if zeros is None else zeros, 4)
        found.weights[f"{module.name}.weight"] = made
    return _complete(tensors, found, file, "awq")


def _outputs(module: Module, part: str) -> mx.array:
    """(rows, out / 8) words -> (rows, out) codes."""
    words = module.take(part, *WORDS, axes=2)
    codes = unpack_codes(words, 4).reshape(*words.shape, 8)[..., mx.array(AWQ_PLACES)]
    return codes.reshape(words.shape[0], words.shape[1] * 8)


def _complete(tensors: Mapping[str, Weight], found: ForeignWeights, file: str, method: str) -> ForeignWeights:
    if not found.weights:
        raise ModelError(f"{file} says that weights are quantized by {method}, but no tensor is a qweight.")
    found.weights |= others(tensors, PARTS, found.weights)
    return found
