"""In what a GPU holds and computes a checkpoint."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.forms import hold_for_gpu
from mlxrun.loading.open import recipe_of
from mlxrun.ops.device import a_mac
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.weights import open_checkpoint

NAMES = ("norm.weight", "layers.0.mixer.q.bias", "layers.0.mixer.sinks", "embed.weight")
WIDE = (
    *("layers.0.ffn.router.weight", "layers.0.ffn.router.bias", "layers.0.ffn.select_bias"),
    *("layers.0.mixer.A_log", "layers.0.mixer.D", "layers.0.mixer.dt_bias", "layers.0.mixer.conv.weight"),
)


def stored() -> dict[str, Weight]:
    found: dict[str, Weight] = {name: mx.ones((4, 32)) for name in (*NAMES, *WIDE)}
    affine = mx.quantize(mx.random.normal((8, 64), key=mx.random.key(1)), 32, 4)
    found["layers.0.mixer.q.weight"] = QuantizedWeight(*affine, "affine", 4, 32)
    floats = mx.quantize(mx.ones((8, 64)), mode="mxfp4")
    found["layers.0.ffn.up.weight"] = QuantizedWeight(*floats, None, "mxfp4", 4, 32)
    return found


@pytest.mark.parametrize(("family", "dtype"), [("llama", mx.float16), ("gemma3", mx.bfloat16), ("new", mx.bfloat16)])
def test_a_gguf_file_is_held_in_one_type_but_for_what_meets_float32(family: str, dtype: mx.Dtype) -> None:
    made = hold_for_gpu(stored(), "gguf", family)
    assert {name: made[name].dtype for name in NAMES} == dict.fromkeys(NAMES, dtype)
    assert {name: made[name].dtype for name in WIDE} == dict.fromkeys(WIDE, mx.float32)
    q, up = made["layers.0.mixer.q.weight"], made["layers.0.ffn.up.weight"]
    assert isinstance(q, QuantizedWeight)
    assert isinstance(up, QuantizedWeight)
    assert q.biases is not None
    assert (q.packed.dtype, q.scales.dtype, q.biases.dtype) == (mx.uint32, dtype, dtype)
    assert up.scales.dtype == mx.uint8


def test_scales_that_are_products_follow_the_plain_weights() -> None:
    found = stored()
    found["embed.weight"] = mx.ones((4096, 32), mx.bfloat16)
    made = hold_for_gpu(found, "hf", "llama")
    q = made["layers.0.mixer.q.weight"]
    assert isinstance(q, QuantizedWeight)
    assert (q.scales.dtype, made["norm.weight"].dtype) == (mx.bfloat16, mx.bfloat16)
    assert {made[name].dtype for name in WIDE} == {mx.float32}


def test_a_checkpoint_in_float32_stays_so() -> None:
    found = stored()
    assert all(hold_for_gpu(found, "hf", "llama")[name] is weight for name, weight in found.items())


def test_a_plan_for_a_mac_knows_it(smollm2_gguf: Path) -> None:
    """Two bytes a value: 5 bits a weight of 4 in groups of 32, norms in halves, keys in halves."""
    checkpoint = open_checkpoint(smollm2_gguf)
    seen = dry_run(checkpoint, recipe_of(checkpoint), a_mac())
    matrices, norms = 30 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536), 61 * 576
    assert seen.width == 2
    table = seen.weights.kinds["embedding"]
    assert seen.weights.total == matrices * 5 // 8 + norms * 2 + table
