"""Files seen as arrays and packed weights: right where they fit, refused where they do not."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import KINDS, name_of, weight, wide

FIELDS = ("experts", "rows", "cols", "group", "codes", "scale_type", "has_bias", "zero", "scale_bytes", "panel_bytes")


def file_of(path: Path, data: bytes) -> object:
    path.write_bytes(data)
    return native.MappedFile(str(path), len(data))


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_packed_weight_can_be_kept_in_a_file(tmp_path: Path, kind: tuple[str, int, int]) -> None:
    made = weight(np.random.default_rng(1), (37, 256), kind, whole=True)
    bytes_ = np.array(made.packed.data).tobytes()
    mapped = file_of(tmp_path / "w", b"\0" * 128 + bytes_)
    again = mapped.packed(128, made.packed.mode, made.packed.bits, native.packed_layout(made.packed))
    assert again.shape == made.packed.shape
    assert again.symmetric == made.packed.symmetric
    del mapped
    (tmp_path / "w").unlink()
    x = mx.array(np.random.default_rng(2).normal(size=(3, 256)).astype(np.float32))
    assert mx.array_equal(native.matmul(x, again), native.matmul(x, made.packed))


@pytest.mark.parametrize("kind", [("affine", 4, 64), ("affine", 6, 16), ("nvfp4", 4, 16), ("f16", 16, 0)], ids=name_of)
def test_no_layout_reaches_past_its_panels(tmp_path: Path, kind: tuple[str, int, int]) -> None:
    """Any field changed by anything: refused, or of no more bytes than the file has."""
    made = weight(np.random.default_rng(3), (32, 256), kind, whole=True)
    mapped = file_of(tmp_path / "w", np.array(made.packed.data).tobytes())
    right = native.packed_layout(made.packed)
    for field, name in enumerate(FIELDS):
        for value in (-1, 0, 1, 2, 15, 16, 31, 48, 64, 255, 4096, 2**31 - 1, 2**40, 2**62):
            wrong = [*right[:field], value, *right[field + 1 :]]
            try:
                got = mapped.packed(0, made.packed.mode, made.packed.bits, wrong)
            except ValueError:
                continue
            assert got.nbytes <= mapped.size, (name, value)
            rows = (
                native.table_rows(mx.arange(0, got.shape[-2], dtype=mx.int32), got, mx.float32)
                if len(got.shape) == 2
                else None
            )
            mx.eval(rows)
    for mode, bits in [("affine", 2), ("affine", 6), ("mxfp4", 4), ("mxfp8", 8), ("plain", 32), ("nvfp4", 8), ("?", 4)]:
        if (mode, bits) == kind[:2]:
            continue
        with pytest.raises(ValueError, match=r"layout|bits|group|mode"):
            mapped.packed(0, mode, bits, right)
    for start in (1, 32, 64, 2**40, 2**63):
        with pytest.raises(ValueError, match="start"):
            mapped.packed(start, made.packed.mode, made.packed.bits, right)
    with pytest.raises(ValueError, match="layout"):  # a code for zero that no byte holds
        mapped.packed(0, made.packed.mode, made.packed.bits, [*right[:7], 256, *right[8:]])
    for length in (0, 9, 11):
        with pytest.raises(ValueError, match="layout"):
            mapped.packed(0, made.packed.mode, made.packed.bits, [0] * length)


def test_arrays_of_a_file(tmp_path: Path) -> None:
    values = np.random.default_rng(4).normal(size=(5, 7)).astype(np.float32)
    mapped = file_of(tmp_path / "a", b"12345678" + values.tobytes())
    np.testing.assert_array_equal(wide(mapped.array(8, (5, 7), mx.float32)), values)
    np.testing.assert_array_equal(wide(mapped.array(8 + 28, (4, 7), mx.float32)), values[1:])
    assert mapped.array(8, (0, 7), mx.float32).shape == (0, 7)
    for start, shape, name in [(9, (1,), "start"), (8, (36,), "shape"), (148, (1,), "start"), (0, (-1,), "shape"),
                               (2**63, (1,), "start"), (8, (2**31 - 1,) * 3, "shape"),
                               (8, (2**16,) * 4, "shape")]:  # fmt: skip
        with pytest.raises(ValueError, match=name):
            mapped.array(start, shape, mx.float32)
    with pytest.raises(ValueError, match="start and bytes"):
        mapped.will_need(0, 149)
    for start, length in ((140, 8), (148, 0)):
        mapped.will_need(start, length)
        mapped.need_not_stay(start, length)
    assert 0 <= mapped.resident <= mapped.size == 148


def test_resident_is_what_of_the_file_is_in_memory(tmp_path: Path) -> None:
    pages = 16
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(pages * mmap.PAGESIZE)  # nothing was ever written, so nothing is in memory
    mapped = native.MappedFile(str(tmp_path / "hole"), pages * mmap.PAGESIZE)
    assert mapped.resident == 0
    assert np.array(mapped.array(0, (pages * mmap.PAGESIZE,), mx.uint8)).sum() == 0
    assert mapped.resident == mapped.size


def test_what_need_not_stay_leaves_the_memory_of_the_process(tmp_path: Path) -> None:
    if not (status := Path("/proc/self/statm")).exists():
        pytest.skip("This system does not tell how much memory is in use.")
    size = 16 << 20
    mapped = file_of(tmp_path / "a", b"\1" * size)
    assert np.array(mapped.array(0, (size,), mx.uint8), copy=False).sum() == size
    before = int(status.read_text().split()[1])
    mapped.need_not_stay(0, size)
    assert (before - int(status.read_text().split()[1])) * mmap.PAGESIZE > size // 2
    assert np.array(mapped.array(0, (size,), mx.uint8), copy=False).sum() == size


def test_arithmetic_never_writes_into_the_file(tmp_path: Path) -> None:
    """MLX reuses the memory of arrays that nobody holds any more: not of these, which may not be written."""
    values = np.ones((64, 64), np.float32)
    mapped = file_of(tmp_path / "a", values.tobytes())
    y = mx.exp(mapped.array(0, (64, 64), mx.float32) + 1)
    y = native.rms_norm(mapped.array(0, (64, 64), mx.float32), None, 0.0) + y
    mx.eval(y, mapped.array(0, (64, 64), mx.float32) * 2)
    assert (tmp_path / "a").read_bytes() == values.tobytes()


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    for size in (0, 3, 5, 2**62):
        with pytest.raises(ValueError, match="size"):
            native.MappedFile(str(path), size)
    with pytest.raises((OSError, RuntimeError), match="missing"):
        native.MappedFile(str(tmp_path / "missing"), 4)
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="path"):
            native.MappedFile(str(odd), 4)
    mapped = native.MappedFile(str(path), 4)
    assert mapped.unchanged
    path.write_bytes(b"12345")
    assert not mapped.unchanged
