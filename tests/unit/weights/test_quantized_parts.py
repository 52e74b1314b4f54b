"""Quantized layouts against decoders written from the formats' descriptions, and every way they can disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from weight_files import E2M1, decode, one_sentence, values_of

from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import gather_parts, open_checkpoint

AFFINE = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
LAYOUTS = [*AFFINE, ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
# the furthest a value may be from what was quantized, in units of its group's largest magnitude
COARSE = {"mxfp4": 0.26, "mxfp8": 0.08, "nvfp4": 0.2}


def parts(module: str, w: np.ndarray, mode: str, bits: int, group: int, dtype: mx.Dtype = mx.float32) -> dict[str, Any]:
    made = mx.quantize(mx.array(w).astype(dtype), group_size=group, bits=bits, mode=mode)
    return dict(zip((f"{module}.weight", f"{module}.scales", f"{module}.biases"), made, strict=False))


def said(mode: str, bits: int, group: int, **modules: Any) -> dict[str, Any]:
    return {"quantization": {"group_size": group, "bits": bits, "mode": mode, **modules}}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize(("mode", "bits", "group"), LAYOUTS)
def test_a_layout_of_mlx(mode: str, bits: int, group: int, dtype: mx.Dtype, tmp_path: Path) -> None:
    w = normal(6, 256)
    mx.save_safetensors(
        str(tmp_path / "model.safetensors"),
        {**parts("m.q", w, mode, bits, group, dtype), "m.norm.weight": mx.ones((4,))},
        {"format": "mlx"},
    )
    (tmp_path / "config.json").write_text("{}")
    found = gather_parts(open_checkpoint(tmp_path).tensors(), said(mode, bits, group))
    assert set(found) == {"m.q.weight", "m.norm.weight"}
    q = found["m.q.weight"]
    assert isinstance(q, QuantizedWeight)
    assert (q.shape, q.mode, q.bits, q.group) == ((6, 256), mode, bits, group)
    assert np.array_equal(values_of(q), decode(q))
    largest = np.repeat(np.abs(w).reshape(6, -1, group).max(-1), group, -1)
    rounding = 0.02 if dtype == mx.bfloat16 else 0.001  # of the scales
    assert (np.abs(values_of(q) - w) <= (COARSE.get(mode, 2 / (2**bits - 1)) + rounding) * largest).all()


def test_stacks_of_experts_are_quantized_alike() -> None:
    w = normal(3, 4, 64)
    q = gather_parts(parts("e", w, "mxfp4", 4, 32), said("mxfp4", 4, 32))["e.weight"]
    assert q.shape == (3, 4, 64)
    assert np.array_equal(values_of(q), decode(q))


def test_modules_may_differ() -> None:
    tensors = {
        **parts("a", normal(2, 64), "affine", 4, 64),
        **parts("b", normal(2, 64), "affine", 8, 32),
        **parts("c", normal(2, 64), "mxfp4", 4, 32),
        "d.weight": mx.ones((2, 64)),
    }
    config = said("affine", 4, 64, b={"bits": 8, "group_size": 32}, c={"mode": "mxfp4"}, d=False)
    found = gather_parts(tensors, config)
    assert [(w.mode, w.bits, w.group) for n, w in found.items() if n != "d.weight"] == [
        ("affine", 4, 64),
        ("affine", 8, 32),
        ("mxfp4", 4, 32),
    ]
    assert isinstance(found["d.weight"], mx.array)


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"bits": 4, "group_size": 64}},
        {"text_config": {"quantization": {"bits": 4, "group_size": 64}}},
        {"quantization": {"bits": 4}, "quantization_config": {"quant_method": "fp8"}},
    ],
)
def test_where_the_config_may_say_it(config: Any) -> None:
    found = gather_parts(parts("a", normal(2, 64), "affine", 4, 64), config)
    assert isinstance(found["a.weight"], QuantizedWeight)


def test_without_quantization_scales_are_plain_tensors() -> None:
    tensors = {"a.weight": mx.ones((2, 3)), "a.scales": mx.ones((2,)), "b.biases": mx.ones((2,))}
    assert gather_parts(tensors, {}) == tensors


def test_arrays_stay_lazy(tmp_path: Path) -> None:
    w = mx.random.normal((256, 4096))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), parts("a", np.array(w), "affine", 8, 64))
    (tmp_path / "config.json").write_text("{}")
    before = mx.get_active_memory()
    found = gather_parts(open_checkpoint(tmp_path).tensors(), said("affine", 8, 64))
    assert mx.get_active_memory() - before < 1000
    assert found["a.weight"].nbytes > 1_000_000


# ---- GPT-OSS ------------------------------------------------------------------------------------

OSS = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}


def blocks(experts: int = 2, out: int = 6, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(1)
    scales = g.integers(0, 254, (experts, out, groups), dtype=np.uint8)
    scales[0, 0] = (0, 127, 253)
    return g.integers(0, 256, (experts, out, groups, 16), dtype=np.uint8), scales


def test_gpt_oss_blocks_keep_every_bit() -> None:
    codes, scales = blocks()
    found = gather_parts({"e.up_blocks": mx.array(codes), "e.up_scales": mx.array(scales)}, OSS)
    assert list(found) == ["e.up_blocks"]
    q = found["e.up_blocks"]
    assert q.shape == (2, 6, 96)
    # the format: a block's byte i holds value 2 i in its low half and value 2 i + 1 in its high half
    values = np.stack([E2M1[codes & 15], E2M1[codes >> 4]], -1).reshape(2, 6, 3, 32)
    with np.errstate(over="ignore"):
        expected = np.ldexp(values, scales.astype(np.int32)[..., None] - 127).reshape(2, 6, 96)
    assert np.array_equal(values_of(q), expected)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"e_blocks": blocks()[0]}, "'e_scales'"),
        ({"e_scales": blocks()[1]}, "'e_blocks'"),
        ({"e_blocks": blocks()[0].astype(np.int32), "e_scales": blocks()[1]}, "bytes"),
        ({"e_blocks": blocks()[0][..., :8], "e_scales": blocks()[1]}, "16 bytes a scale"),
        ({"e_blocks": blocks()[0], "e_scales": blocks()[1][..., :2]}, "16 bytes a scale"),
    ],
)
def test_bad_blocks(tensors: dict[str, np.ndarray], words: str) -> None:
    refused({name: mx.array(array) for name, array in tensors.items()}, OSS, words)


# ---- what does not fit --------------------------------------------------------------------------


def refused(tensors: dict[str, mx.array], config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as error:
        gather_parts(tensors, config)
    assert words in one_sentence(error.value)


def whole(**changes: Any) -> dict[str, mx.array]:
    """A 4-bit weight with parts replaced, or left out where None."""
    made = {**parts("m.q", normal(4, 128), "affine", 4, 64), **{f"m.q.{part}": new for part, new in changes.items()}}
    return {name: array for name, array in made.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": None}, "'m.q.scales' is missing"),
        ({"biases": None}, "must have biases"),
        ({"weight": None}, "no 'm.q.weight'"),
        ({"weight": mx.zeros((4, 16), mx.int32)}, "must be uint32, not int32"),
        ({"weight": mx.zeros((4, 128), mx.float16)}, "must be uint32, not float16"),
        ({"weight": mx.zeros((4, 17), mx.uint32)}, "4 bits in groups of 64"),
        ({"weight": mx.zeros((5, 16), mx.uint32)}, "do not fit"),
        ({"weight": mx.zeros((16,), mx.uint32)}, "do not fit"),
        ({"scales": mx.zeros((4, 2), mx.uint8)}, "cannot be uint8"),
        ({"scales": mx.zeros((4, 2), mx.float16)}, "must be alike"),
        ({"biases": mx.zeros((4, 1))}, "must be alike"),
        ({"scales": mx.zeros((4, 1)), "biases": mx.zeros((4, 1))}, "4 bits in groups of 64"),
        ({"global_scale": mx.zeros(())}, "global_scale"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], words: str) -> None:
    refused(whole(**changes), said("affine", 4, 64), words)


def test_packed_without_a_word_in_the_config() -> None:
    refused(whole(), {}, "no quantization")
    refused(whole(), said("affine", 4, 64, **{"m.q": False}), "is not quantized")


def test_other_bits_than_the_config_says() -> None:
    refused(whole(), said("affine", 8, 64), "8 bits in groups of 64")
    refused(whole(), said("mxfp4", 4, 32), "no biases")
    refused(parts("m.q", normal(4, 128), "mxfp4", 4, 32), said("affine", 4, 32), "must have biases")
    refused(parts("m.q", normal(4, 128), "mxfp4", 4, 32), said("nvfp4", 4, 16), "groups of 16")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (said("affine", 7, 64), "7 bits"),
        (said("affine", 4, 48), "groups of 48"),
        (said("mxfp4", 4, 64), "groups of 64"),
        (said("affine", True, 64), "True bits"),
        (said("affine", 4.0, 64), "4.0 bits"),
        (said("affine", [4], 64), "[4] bits"),
        (said("fancy", 4, 64), "'fancy'"),
        (said(["affine"], 4, 64), "['affine']"),
        (said("affine", 4, 64, x={"bits": 9}), "'x'"),
        (said("nvfp4", 4, 16, x={"mode": "nvfp4", "global_scale": True}), "global_scale"),
        ({"quantization": 4}, "must be an object"),
        ({"quantization_config": {"what": 1}}, "no quant_method"),
    ],
)
def test_a_config_that_is_not_known(config: dict[str, Any], words: str) -> None:
    refused({}, config, words)


@pytest.mark.parametrize("method", ["bitsandbytes", "hqq", "quark", ["x"], None])
def test_a_method_that_is_not_read(method: Any) -> None:
    refused({}, {"quantization_config": {"quant_method": method, "bits": 4}}, "are not read")
