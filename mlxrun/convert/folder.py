"""A checkpoint -> a folder in mlx-lm's dialect, quantized or in full precision.

Everything is lazy until `stream.write_model` computes one tensor after the other. Weights that are quantized
already and shall stay so are kept bit for bit, where mlx-lm's names only rename them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..text.gguf import as_files
from ..weights import Checkpoint, gather_parts
from ..weights.checkpoint import MODELOPT
from ..weights.mapped import believed
from ..weights.quantized import FLOATS, GROUPS, Layout
from .aside import write_aside
from .from_gguf import hf_tensors
from .fuse import Fusion
from .names import Named, named
from .stream import Progress, copy_others, write_model
from .weight_layout import Wanted, of, quantize, written

# (weights by their names in the file, config.json) -> (tensors as they are to be written, config.json)
Making = Callable[[Mapping[str, Weight], Mapping[str, Any]], tuple[dict[str, mx.array], dict[str, Any]]]


def convert_folder(
    checkpoint: Checkpoint,
    target: Path,
    *,
    wanted: Wanted | None = None,
    dtype: mx.Dtype | None = None,
    progress: Progress | None = None,
    by: Making | None = None,
    fused: Fusion | None = None,
) -> None:
    """`wanted` None: nothing is quantized that is not. `dtype`: of what is not quantized, and of scales. `by`: another
    way to quantize than one weight after the other. `fused`: an adapter that all of it has from now on."""
    with write_aside(target) as aside, believed():
        weights, said = source(checkpoint)
        if checkpoint.dialect == "gguf":
            for name, content in as_files(checkpoint.metadata).items():
                (aside / name).write_text(content, encoding="utf-8")
        else:
            copy_others(checkpoint.path, aside, leave=("config.json", MODELOPT))
        if fused is not None:
            weights = fused(weights, dtype, anew=wanted is not None)
        make = by or partial(in_mlx_names, wanted=wanted, dtype=dtype)
        tensors, config = make(weights, said)
        weights.clear()  # so that each can be freed once it is written
        write_model(aside, tensors, progress=progress)
        (aside / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def source(checkpoint: Checkpoint) -> tuple[dict[str, Weight], dict[str, Any]]:
    """(lazy weights under Hugging Face's or mlx-lm's names, config.json)."""
    if checkpoint.dialect == "gguf":
        return hf_tensors(checkpoint)
    return gather_parts(checkpoint.tensors(), checkpoint.config), dict(checkpoint.config)


def in_mlx_names(
    found: Mapping[str, Weight], config: Mapping[str, Any], wanted: Wanted | None, dtype: mx.Dtype | None
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """(lazy tensors as they are to be written, config.json)."""
    plain = {name: plain_weight(weight, dtype) for name, weight in found.items()}
    names = named(plain, config)
    stored = {id(plain[name]): weight for name, weight in found.items() if isinstance(weight, QuantizedWeight)}
    tensors: dict[str, mx.array] = {}
    layouts: dict[str, Layout | None] = {}
    for name in list(names.tensors):
        array = names.tensors.pop(name)
        module, _, part = name.rpartition(".")
        if part != "weight" or module not in names.advice:
            tensors[name] = array
            continue
        made = _made(module, array, stored.get(id(array)), wanted, names)
        layouts[module] = of(made) if isinstance(made, QuantizedWeight) else None
        tensors |= _parts(module, made, dtype)
    if wanted is None and any(isinstance(weight, QuantizedWeight) for weight in found.values()):
        _refuse_lost(layouts, found)
    return tensors, with_quantization(names.config, layouts, None if wanted is None else wanted.usual)


def plain_weight(weight: Weight, dtype: mx.Dtype | None) -> mx.array:
    if isinstance(weight, QuantizedWeight):
        default = mx.bfloat16 if weight.biases is None else weight.scales.dtype
        return weight.dequantize(dtype or default)
    return weight.astype(dtype) if dtype is not None and weight.dtype in FLOATS else weight


def _made(
    module: str, array: mx.array, stored: QuantizedWeight | None, wanted: Wanted | None, names: Named
) -> mx.array | QuantizedWeight:
    if wanted is None:
        return array if stored is None else stored
    how = wanted.words if wanted.words and module in names.words else wanted.of(module, tuple(array.shape))
    advice = names.advice[module]
    if how is None or advice is False:
        return array
    if isinstance(advice, dict):  # its class asks for more for this one (routers)
        how = Layout(advice.get("mode", "affine"), advice["bits"], advice["group_size"])
    if wanted.keep and stored is not None and as_small(stored, how):
        return stored
    return array if array.shape[-1] % how.group else quantize(array, how)


def as_small(stored: QuantizedWeight, how: Layout) -> bool:
    """Whether it has so few bits already, in a layout that MLX's files have too."""
    return stored.mode == how.mode == "affine" and stored.bits <= how.bits and stored.group in GROUPS


def _parts(module: str, made: mx.array | QuantizedWeight, dtype: mx.Dtype | None) -> dict[str, mx.array]:
    if isinstance(made, mx.array):
        return {f"{module}.weight": made}
    parts = {f"{module}.weight": made.packed, f"{module}.scales": made.scales}
    if made.biases is not None:
        parts[f"{module}.biases"] = made.biases
        if dtype is not None:
            parts |= {name: part.astype(dtype) for name, part in parts.items() if not name.endswith(".weight")}
    return parts


def _refuse_lost(layouts: Mapping[str, Layout | None], found: Mapping[str, Weight]) -> None:
    """Every quantized weight of the file must be one of what is written; a stacked one is not."""
    kept = sum(layout is not None for layout in layouts.values())
    if kept < sum(isinstance(weight, QuantizedWeight) for weight in found.values()):
        raise ModelError(
            "The checkpoint's quantized weights have another shape in mlx-lm's files, so they cannot be kept as they "
            "are; --quantize makes new ones."
        )


def with_quantization(
    config: Mapping[str, Any], layouts: Mapping[str, Layout | None], usual: Layout | None
) -> dict[str, Any]:
    """config.json with `quantization`: the usual layout, and modules that differ from it."""
    used = [layout for layout in layouts.values() if layout is not None]
    if not used:
        return dict(config)
    usual = usual or max(set(used), key=used.count)
    modules = {name: False if one is None else written(one) for name, one in layouts.items() if one != usual}
    quantization = {**written(usual), **modules}
    return {**config, "quantization": quantization, "quantization_config": quantization}
