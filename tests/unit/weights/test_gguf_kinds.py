"""Every quantized GGUF type, from blocks of random bytes, against the `gguf` package's dequantizer."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from weight_files import gguf_bytes, gguf_info, one_sentence, values_of

from mlxrun.ops.device import this_device
from mlxrun.ops.native import native, pack
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from mlxrun.weights.gguf import BLOCKS
from mlxrun.weights.gguf_tensors import FORMS, SIZES, Reading
from mlxrun.weights.outline import outline

NUMBERS = {label: number for number, (label, _, _) in BLOCKS.items()}
EXACT = [kind for kind, form in FORMS.items() if form.values is None and kind != "Q8_K"]
# relative error on random bytes, which are harder than weights: a little above what was measured
FINE = [kind for kind, form in FORMS.items() if form.fine is not None]
LOSSY = {"Q2_K": 0.002, "Q6_K": 0.004, "IQ3_XXS": 0.02, "IQ2_XXS": 0.025, "IQ2_XS": 0.02, "IQ2_S": 0.02, "IQ1_M": 0.015}
ROWS, WIDTH = 6, 1024


def random_blocks(kind: str, scale: float = 0.01) -> np.ndarray:
    """(rows, blocks, bytes): random bytes, but for scales, which are numbers."""
    random = np.random.default_rng(NUMBERS[kind])
    values, nbytes = SIZES[kind]
    shape = (ROWS, WIDTH // values)
    blocks = random.integers(0, 256, (*shape, nbytes), dtype=np.uint8)
    for at in FORMS[kind].halves if kind != "Q8_K" else ():
        blocks[..., at : at + 2] = (random.standard_normal(shape) * scale).astype("<f2")[..., None].view(np.uint8)
    if kind == "Q8_K":
        blocks[..., :4] = random.standard_normal(shape).astype("<f4")[..., None].view(np.uint8)
    if kind == "IQ1_M":  # the high bits of four words are one half float
        for at, high in ((49, 0x00), (51, 0x10), (53, 0x40), (55, 0x20)):
            blocks[..., at] = (blocks[..., at] & 15) | high
    if kind.startswith("MXFP4"):
        blocks[..., 0] = random.integers(100, 150, shape)
    if kind == "NVFP4":
        blocks[..., :4] &= 0x7F
        blocks[0, 0, 0] = 0x7F  # which means 0
    return blocks


def write(path: Path, kind: str, blocks: np.ndarray) -> Path:
    info = gguf_info("w", [blocks.shape[1] * SIZES[kind][0], blocks.shape[0]], NUMBERS[kind], 0)
    path.write_bytes(gguf_bytes([], [info], blocks.tobytes()))
    return path


def expected(kind: str, blocks: np.ndarray) -> np.ndarray:
    if kind == "MXFP4_RAW":  # the package has no such kind; neighbours share a byte
        codes = np.stack([blocks[..., 1:] & 15, blocks[..., 1:] >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
        halves = codes[..., :16] | codes[..., 16:] << 4
        kind, blocks = "MXFP4", np.concatenate([blocks[..., :1], halves], axis=-1)
    return gguf.quants.dequantize(blocks.reshape(blocks.shape[0], -1), gguf.GGMLQuantizationType[kind])


@pytest.mark.parametrize("kind", EXACT)
def test_bit_for_bit(kind: str, tmp_path: Path) -> None:
    blocks = random_blocks(kind)
    weight = open_checkpoint(write(tmp_path / "m.gguf", kind, blocks)).tensors()["w"]
    assert isinstance(weight, QuantizedWeight)
    assert np.array_equal(values_of(weight), expected(kind, blocks))


@pytest.mark.parametrize("kind", FINE)
def test_groups_of_16_are_bit_for_bit(kind: str, tmp_path: Path) -> None:
    assert FINE == ["Q2_K", "Q3_K", "Q6_K"]
    blocks = random_blocks(kind, scale=30.0)  # values beyond float16 too
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", kind, blocks)).read_as("fine")
    weight, drawn = checkpoint.tensors()["w"], outline(checkpoint, centred=True)["w"]
    assert isinstance(weight, QuantizedWeight)
    assert (weight.bits, weight.group) == (int(kind[1]), 16)
    assert np.array_equal(values_of(weight), expected(kind, blocks))
    assert list(checkpoint.losses()) == []
    symmetric = kind != "Q2_K"
    assert len(drawn.parts) == 3 - symmetric
    assert [(p.dtype, p.shape) for p in drawn.parts] == [(p.dtype, p.shape) for p in weight.parts[: 3 - symmetric]]
    if this_device().native:
        packed = pack(weight)
        assert packed.nbytes == drawn.nbytes * 16 // ROWS  # a panel has 16 rows
        rows = native.table_rows(mx.arange(ROWS), packed, mx.float32)
        assert np.array_equal(np.array(rows), expected(kind, blocks))


@pytest.mark.parametrize("kind", LOSSY)
def test_what_is_lost_is_little_and_said(kind: str, tmp_path: Path) -> None:
    blocks = random_blocks(kind)
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", kind, blocks))
    wanted = expected(kind, blocks)
    error = values_of(checkpoint.tensors()["w"]) - wanted
    relative = float(np.sqrt((error**2).sum() / (wanted**2).sum()))
    assert 0 < relative < LOSSY[kind]
    ((name, stored, said),) = checkpoint.losses()
    assert (name, stored) == ("w", kind)
    assert said == pytest.approx(relative, rel=1e-4)


def test_every_type_is_exact_or_has_its_loss_told() -> None:
    assert set(EXACT) | set(LOSSY) | {"Q8_K"} == set(FORMS)
    assert set(FORMS) | {"F32", "F16", "BF16"} == set(NUMBERS)


def test_q8_k_has_float_scales(tmp_path: Path) -> None:
    """The package has no dequantizer for it: a float32 scale, 256 signed bytes, sums that are not needed."""
    blocks = random_blocks("Q8_K")
    weight = open_checkpoint(write(tmp_path / "m.gguf", "Q8_K", blocks)).tensors()["w"]
    wanted = np.ascontiguousarray(blocks[..., :4]).view("<f4") * blocks[..., 4:260].view(np.int8).astype(np.float32)
    np.testing.assert_allclose(values_of(weight), wanted.reshape(ROWS, WIDTH), rtol=1e-5, atol=1e-5)


def test_half_of_a_q6_k_group_is_exact(tmp_path: Path) -> None:
    blocks = random_blocks("Q6_K")
    got = values_of(open_checkpoint(write(tmp_path / "m.gguf", "Q6_K", blocks)).tensors()["w"])
    same = (got == expected("Q6_K", blocks)).reshape(ROWS, -1, 2, 16).all(axis=-1)
    assert same.any(axis=-1).all()


def test_wide_q6_k_is_the_nearest_float16(tmp_path: Path) -> None:
    blocks = random_blocks("Q6_K")
    wanted = expected("Q6_K", blocks)
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", "Q6_K", blocks)).read_as("wide")
    got = checkpoint.tensors()["w"]
    assert got.dtype == outline(checkpoint)["w"].dtype == mx.float16
    assert np.array_equal(np.array(got), wanted.astype(np.float16))
    ((_, _, said),) = checkpoint.losses()
    error = np.array(got).astype(np.float64) - wanted
    assert said == pytest.approx(float(np.sqrt((error**2).sum() / (wanted.astype(np.float64) ** 2).sum())), rel=1e-3)
    assert 0 < said < 0.0003


def test_q6_k_beyond_float16_is_not_made_wide(tmp_path: Path) -> None:
    blocks = random_blocks("Q6_K", scale=30.0)
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", "Q6_K", blocks)).read_as("wide")
    assert isinstance(checkpoint.tensors()["w"], QuantizedWeight)
    ((_, _, said),) = checkpoint.losses()
    assert 0.001 < said < LOSSY["Q6_K"]


@pytest.mark.parametrize(
    ("kind", "reading"),
    [(k, r) for r, own in (("wide", ["Q6_K"]), ("fine", FINE)) for k in FORMS if k not in own],
)
def test_other_types_are_the_same_in_every_reading(kind: str, reading: Reading, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", kind, random_blocks(kind))
    own, usual = open_checkpoint(path).read_as(reading).tensors()["w"], open_checkpoint(path).tensors()["w"]
    assert all(mx.array_equal(a, b, equal_nan=True) for a, b in zip(own.parts, usual.parts, strict=True))


@pytest.mark.parametrize("kind", FORMS)
def test_its_outline_has_the_same_shapes_and_types(kind: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", kind, random_blocks(kind)))
    real, drawn = checkpoint.tensors()["w"], outline(checkpoint)["w"]
    assert (drawn.mode, drawn.bits, drawn.group, drawn.shape) == (real.mode, real.bits, real.group, real.shape)
    assert [(p.dtype, p.shape) for p in drawn.parts] == [(p.dtype, p.shape) for p in real.parts]
    if FORMS[kind].middle is not None:
        assert mx.array_equal(real.biases, -FORMS[kind].middle * real.scales)


@pytest.mark.parametrize("reading", ["mlx", "fine"])
@pytest.mark.parametrize("kind", [kind for kind, form in FORMS.items() if form.halves])
def test_a_scale_that_is_no_number_is_refused(kind: str, reading: Reading, tmp_path: Path) -> None:
    for at in FORMS[kind].halves:
        blocks = random_blocks(kind)
        bad = struct.pack("<f", float("inf"))[2:] if kind == "Q8_K" else struct.pack("<e", float("nan"))
        blocks[-1, -1, at : at + 2] = np.frombuffer(bad, np.uint8)
        with pytest.raises(ModelError) as error:
            open_checkpoint(write(tmp_path / "m.gguf", kind, blocks)).read_as(reading).tensors()
        assert "not a finite number" in one_sentence(error.value)


@pytest.mark.parametrize(("kind", "scale"), [("Q3_K", 600.0), ("Q5_0", 5000.0), ("IQ4_NL", 600.0)])
def test_scales_too_large_for_half_biases_are_widened(kind: str, scale: float, tmp_path: Path) -> None:
    blocks = random_blocks(kind, scale)
    weight = open_checkpoint(write(tmp_path / "m.gguf", kind, blocks)).tensors()["w"]
    assert weight.scales.dtype == mx.float32
    assert np.array_equal(values_of(weight), expected(kind, blocks))
