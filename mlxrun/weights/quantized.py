"""The parts of a quantized tensor, as files store them -> one `QuantizedWeight`, named as its packed part is.

Two layouts are read here, told apart by config.json alone, and those of `FOREIGN` by readers of their own:
- MLX's: X.weight (uint32), X.scales and, if affine, X.biases; `quantization` gives bits, group and mode,
  and may give others, or false, for single modules by their path in the file;
- GPT-OSS's: X_blocks (..., out, G, 16) and X_scales (..., out, G), bytes. Both hold E2M1 codes, low nibble
  first, and E8M0 scales, so the bytes are the same as in MLX's mxfp4 and are only seen differently.
Every part is checked against the others here. Knows no family and no canonical name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..families.wrappers import TEXT_KEYS
from ..ops.quantized import Mode, QuantizedWeight, Weight
from ..spec import ModelError, shown
from .compressed import read_bitnet, read_compressed
from .float8 import read_fp8, read_modelopt
from .foreign import ForeignWeights
from .gptq import read_awq, read_gptq
from .quantized_types import FLOATS
from .repack import relative_error

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)
# (bits, group) where the writer left them out; the fp modes have no others
USUAL: dict[str, tuple[int, int]] = {"affine": (4, 64), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
BLOCK_BYTES = 16  # of GPT-OSS: 32 codes
PARTS = ("weight", "scales", "biases")
MEASURED = 16  # weights of a checkpoint that its loss is measured on
FOREIGN: dict[str, Callable[[Mapping[str, Weight], Mapping[str, Any], str], ForeignWeights]] = {
    "gptq": read_gptq,
    "awq": read_awq,
    "compressed-tensors": read_compressed,
    "fp8": read_fp8,
    "modelopt": read_modelopt,
    "bitnet": read_bitnet,
}


@dataclass(frozen=True, slots=True)
class Layout:
    mode: Mode
    bits: int
    group: int


@dataclass(frozen=True, slots=True)
class Scheme:
    """What config.json says of MLX's layout."""

    usual: Layout
    modules: Mapping[str, Layout | None]  # None: not quantized

    def of(self, module: str) -> Layout | None:
        return self.modules.get(module, self.usual)


def gather_parts(
    tensors: Mapping[str, Weight], config: Mapping[str, Any], file: str = "config.json"
) -> dict[str, Weight]:
    """Every tensor of the file, the quantized ones put together."""
    foreign = _read_foreign(tensors, config, file)
    if foreign is not None:
        return foreign.weights
    scheme, blocks = _scheme(config, file)
    found = _join_blocks(tensors) if blocks else tensors
    return _join_modules(found, scheme, file)


def measure_losses(tensors: Mapping[str, Weight], config: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(name, method, relative error) of some of the weights that a foreign layout gives with loss."""
    found = _read_foreign(tensors, config, "config.json")
    names = sorted(found.lossy) if found is not None else []
    for name in names[:: max(1, len(names) // MEASURED)]:
        assert found is not None
        weight, values = found.weights[name], found.lossy[name]
        assert isinstance(weight, QuantizedWeight)
        method = str(_written(config, "config.json")[1]["quant_method"])
        yield name, method, relative_error(weight.dequantize(mx.float32), values)


def _read_foreign(tensors: Mapping[str, Weight], config: Mapping[str, Any], file: str) -> ForeignWeights | None:
    ours, theirs = _written(config, file)
    method = theirs.get("quant_method") if not ours else None
    reader = FOREIGN.get(method) if isinstance(method, str) else None
    return None if reader is None else reader(tensors, theirs, file)


# ---- what config.json says ----------------------------------------------------------------------


def _scheme(config: Mapping[str, Any], file: str) -> tuple[Scheme | None, bool]:
    """(MLX's scheme or None, whether GPT-OSS blocks are there)."""
    ours, theirs = _written(config, file)
    if not ours and theirs and "quant_method" not in theirs:
        ours = theirs if "bits" in theirs or "group_size" in theirs else {}
        if not ours:
            raise ModelError(f"{file}: quantization_config names no quant_method.")
    if ours:
        return _mlx_scheme(ours, file), False
    if not theirs:
        return None, False
    if theirs["quant_method"] != "mxfp4":
        raise ModelError(
            f"{file}: weights quantized by {shown(theirs['quant_method'])} are not read; "
            f"MLX's own, mxfp4, {', '.join(FOREIGN)} are."
        )
    return None, True


def _written(config: Mapping[str, Any], file: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(quantization, quantization_config), of the whole model or of its text half; empty where there is none."""
    halves = [config, *(config[key] for key in TEXT_KEYS if isinstance(config.get(key), Mapping))]
    found: list[Mapping[str, Any]] = []
    for key in ("quantization", "quantization_config"):
        value: Any = next((half[key] for half in halves if half.get(key)), {})
        if not isinstance(value, Mapping):
            raise ModelError(f"{file}: {key} must be an object, not {shown(value)}.")
        found.append(value)
    return found[0], found[1]


def _mlx_scheme(written: Mapping[str, Any], file: str) -> Scheme:
    usual = _layout(written, f"{file}: quantization")
    modules: dict[str, Layout | None] = {}
    for name, value in written.items():
        who = f"{file}: quantization of {shown(name)}"
        if isinstance(value, bool):
            modules[name] = usual if value else None
        elif isinstance(value, Mapping):
            modules[name] = _layout(value, who)
    return Scheme(usual, modules)


def _layout(written: Mapping[str, Any], who: str) -> Layout:
    mode = written.get("mode", "affine")
    if not isinstance(mode, str) or mode not in USUAL:
        raise ModelError(f"{who}: the mode {shown(mode)} is not known; known are {', '.join(USUAL)}.")
    if written.get("global_scale"):
        raise ModelError(f"{who}: a global_scale is not read yet.")
    bits, group = (
        written.get(key) if written.get(key) is not None else usual
        for key, usual in zip(("bits", "group_size"), USUAL[mode], strict=True)
    )
    good = (bits in BITS and group in GROUPS) if mode == "affine" else (bits, group) == USUAL[mode]
    if isinstance(bits, bool) or not isinstance(bits, int) or not isinstance(group, int) or not good:
        raise ModelError(f"{who}: {mode} with {shown(bits)} bits in groups of {shown(group)} is not known.")
    return Layout(mode, bits, group)  # type: ignore[arg-type]  # a key of USUAL


# ---- MLX's layout -------------------------------------------------------------------------------


def _join_modules(tensors: Mapping[str, Weight], scheme: Scheme | None, file: str) -> dict[str, Weight]:
    joined: dict[str, Weight] = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part not in PARTS or not _is_quantized(module, tensors, scheme):
            joined[name] = tensor
        elif part == "weight":
            joined[name] = _join(module, tensors, scheme, file)
        elif f"{module}.weight" not in tensors:
            raise ModelError(f"The tensor {shown(name)} has no {shown(f'{module}.weight')} beside it.")
    return joined


def _is_quantized(module: str, tensors: Mapping[str, Weight], scheme: Scheme | None) -> bool:
    """Without a scheme, scales are plain tensors: some families have such names."""
    weight = tensors.get(f"{module}.weight")
    packed = isinstance(weight, mx.array) and weight.dtype == mx.uint32
    return packed or (scheme is not None and f"{module}.scales" in tensors)


def _join(module: str, tensors: Mapping[str, Weight], scheme: Scheme | None, file: str) -> QuantizedWeight:
    who = f"The tensor {shown(f'{module}.weight')}"
    if scheme is None:
        raise ModelError(f"{who} is packed, but {file} has no quantization that says how.")
    layout = scheme.of(module)
    if layout is None:
        raise ModelError(f"{who} is packed, but {file} says that {shown(module)} is not quantized.")
    packed, scales, biases = (tensors.get(f"{module}.{part}") for part in ("weight", "scales", "biases"))
    if f"{module}.global_scale" in tensors:
        raise ModelError(f"{who} has a global_scale, which is not read yet.")
    if not isinstance(packed, mx.array) or packed.dtype != mx.uint32:
        raise ModelError(f"{who} has scales, so it must be uint32, not {_kind(packed)}.")
    if not isinstance(scales, mx.array):
        raise ModelError(f"{who} is packed, but {shown(f'{module}.scales')} is missing.")
    if biases is not None and not isinstance(biases, mx.array):
        raise ModelError(f"{who} has biases that are quantized themselves.")
    return join_weight(who, packed, scales, biases, layout)


def join_weight(
    who: str, packed: mx.array, scales: mx.array, biases: mx.array | None, layout: Layout
) -> QuantizedWeight:
    """The parts as one weight, if types and shapes agree with the layout."""
    affine = layout.mode == "affine"
    if affine != (biases is not None):
        raise ModelError(f"{who} is {layout.mode}, so it must have {'biases' if affine else 'no biases'}.")
    if scales.dtype not in (FLOATS if affine else (mx.uint8,)):
        raise ModelError(f"{who} is {layout.mode}, so its scales cannot be {_kind(scales)}.")
    if biases is not None and (biases.dtype, biases.shape) != (scales.dtype, scales.shape):
        raise ModelError(
            f"{who} has biases {_kind(biases)} {biases.shape} beside scales {_kind(scales)} {scales.shape}; "
            "they must be alike."
        )
    if packed.ndim < 2 or packed.shape[:-1] != scales.shape[:-1]:
        raise ModelError(f"{who} is packed as {packed.shape}, which scales of {scales.shape} do not fit.")
    width = packed.shape[-1] * 32
    if width % layout.bits or width // layout.bits != scales.shape[-1] * layout.group:
        raise ModelError(
            f"{who} is packed as {packed.shape} with scales {scales.shape}; "
            f"that is not {layout.bits} bits in groups of {layout.group}, as config.json says."
        )
    return QuantizedWeight(packed, scales, biases, layout.mode, layout.bits, layout.group)


def _kind(tensor: object) -> str:
    return str(tensor.dtype).removeprefix("mlx.core.") if isinstance(tensor, mx.array) else "quantized"


# ---- GPT-OSS's layout ---------------------------------------------------------------------------


def _join_blocks(tensors: Mapping[str, Weight]) -> dict[str, Weight]:
    joined: dict[str, Weight] = {}
    for name, tensor in tensors.items():
        base = name.removesuffix("_blocks").removesuffix("_scales")
        if name == base:
            joined[name] = tensor
        elif f"{base}_blocks" not in tensors or f"{base}_scales" not in tensors:
            missing = base + ("_scales" if name.endswith("_blocks") else "_blocks")
            raise ModelError(f"The tensor {shown(name)} has no {shown(missing)} beside it.")
        elif name.endswith("_blocks"):
            joined[name] = _block_weight(name, tensor, tensors[f"{base}_scales"])
    return joined


def _block_weight(name: str, blocks: Weight, scales: Weight) -> QuantizedWeight:
    who = f"The tensor {shown(name)}"
    if not isinstance(blocks, mx.array) or not isinstance(scales, mx.array):
        raise ModelError(f"{who} is quantized twice.")
    if blocks.dtype != mx.uint8 or scales.dtype != mx.uint8:
        raise ModelError(f"{who} and its scales must be bytes, not {_kind(blocks)} and {_kind(scales)}.")
    if blocks.ndim < 3 or blocks.shape[-1] != BLOCK_BYTES or blocks.shape[:-1] != scales.shape:
        raise ModelError(f"{who} has shape {blocks.shape} beside scales {scales.shape}; blocks have 16 bytes a scale.")
    packed = blocks.view(mx.uint32).reshape(*blocks.shape[:-2], blocks.shape[-2] * BLOCK_BYTES // 4)
    return join_weight(who, packed, scales, None, Layout("mxfp4", *USUAL["mxfp4"]))
