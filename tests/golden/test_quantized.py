"""Quantized checkpoints against the same weights dequantized elsewhere and computed in float32.

mlx-lm quantizes and saves; `dequantize.py` reads the codes in NumPy. Both files go through our loader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import quantize_model

from mlxrun.loading import load_model

from . import measure, record
from .checkpoint import Checkpoint, reference, write
from .dequantize import E2M1, dequantized, e8m0
from .exact import EXACT
from .mlx_dialect import loaded, saved

TOLERANCE = 5e-5  # measured on Linux x86-64: affine formats up to 1e-5, the others up to 1.5e-5
FAMILIES = ("llama", "qwen3_moe", "deepseek_v3", "gpt_oss", "qwen3_next", "gemma3")
FORMATS: dict[str, dict[str, Any]] = {
    "affine 4": {"bits": 4, "group_size": 32},
    "affine 8": {"bits": 8, "group_size": 64},
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "nvfp4": {"bits": 4, "group_size": 16, "mode": "nvfp4"},
}
RARER: dict[str, dict[str, Any]] = {
    "affine 2": {"bits": 2, "group_size": 32},
    "affine 3": {"bits": 3, "group_size": 32},
    "affine 5": {"bits": 5, "group_size": 32},
    "affine 6": {"bits": 6, "group_size": 64},
    "mxfp8": {"bits": 8, "group_size": 32, "mode": "mxfp8"},
}
Predicate = Callable[[str, Any], bool | dict[str, Any]]


def quantized(name: str, how: dict[str, Any], each: Predicate | None = None) -> Checkpoint:
    model, config = loaded(name, reference(name).checkpoint())
    model, config = quantize_model(model, config, **how, quant_predicate=each or (lambda path, module: True))
    return saved(model, config)


def check(name: str, packed: Checkpoint, plain: Checkpoint, folder: Path, what: str) -> None:
    known = reference(name)
    packed_at, plain_at = write(packed, folder / "packed"), write(plain, folder / "plain")
    wanted = measure.Driver(load_model(plain_at, dtype=mx.float32, options=EXACT), known).alone(known.prompt)
    wanted_of = replace(known, expected=wanted)
    for dtype in (mx.float32, None):  # computed from the codes; widened where the device is a CPU
        driver = measure.Driver(load_model(packed_at, dtype=dtype, options=EXACT), known)
        difference = max(measure.whole(driver, wanted_of), measure.chunked(driver, wanted_of))
        record.keep(name, f"quantized {what}", difference)
        assert difference <= TOLERANCE, f"{name}, {what}, dtype {dtype}: off by {difference:.1e}"


@pytest.mark.parametrize("what", FORMATS)
@pytest.mark.parametrize("name", FAMILIES)
def test_as_mlx_lm_quantizes(name: str, what: str, tmp_path: Path) -> None:
    packed = quantized(name, FORMATS[what])
    assert sum(tensor.endswith(".scales") for tensor in packed.weights) >= 20
    check(name, packed, dequantized(packed), tmp_path, what)


@pytest.mark.parametrize("what", RARER)
def test_rarer_formats(what: str, tmp_path: Path) -> None:
    packed = quantized("llama", RARER[what])
    check("llama", packed, dequantized(packed), tmp_path, what)


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "deepseek_v3"])
def test_modules_of_their_own_format(name: str, tmp_path: Path) -> None:
    """Embedding and head finer, values and down projections of even layers at 6 bits, routers not at all."""

    def each(path: str, _module: Any) -> bool | dict[str, Any]:
        if path.endswith(("embed_tokens", "lm_head")):
            return {"bits": 8, "group_size": 64, "mode": "affine"}
        if path.endswith("mlp.gate"):
            return False
        even = any(f"layers.{layer}." in path for layer in (0, 2))
        return {"bits": 6, "group_size": 32, "mode": "affine"} if even and "down_proj" in path else True

    packed = quantized(name, FORMATS["mxfp4"], each)
    assert sum(isinstance(value, dict) for value in packed.config["quantization"].values()) >= 4
    check(name, packed, dequantized(packed), tmp_path, "modules of their own")


def test_gpt_oss_blocks_and_scales(tmp_path: Path) -> None:
    """The layout that OpenAI ships: 16 bytes of codes a block of 32 inputs, one exponent a block."""
    base = reference("gpt_oss").checkpoint()
    packed, plain = dict(base.weights), dict(base.weights)
    for name in [name for name in packed if name.endswith(("gate_up_proj", "down_proj"))]:
        rows = packed.pop(name).swapaxes(1, 2)  # (E, out, in)
        codes, scales = (np.array(part) for part in mx.quantize(mx.array(rows), 32, 4, "mxfp4"))
        blocks = codes.view(np.uint8).reshape(*scales.shape, 16)
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        halves = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)  # low four bits first
        plain[name] = (E2M1[halves] * e8m0(scales)[..., None]).reshape(rows.shape).swapaxes(1, 2)
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config = {**base.config, "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": skipped}}
    check("gpt_oss", Checkpoint(config, packed), Checkpoint(base.config, plain), tmp_path, "blocks and scales")
