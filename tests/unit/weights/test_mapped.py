"""Tensors that are views into their file: equal to what is read, released with the last of them, refused when wrong."""

from __future__ import annotations

import gc
import os
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxrun.ops.native import native
from mlxrun.spec import ModelError
from mlxrun.weights.checkpoint import read_file
from mlxrun.weights.headers import read_header
from mlxrun.weights.mapped import map_tensors

pytestmark = pytest.mark.skipif(native is None, reason="the native library is not built, and nothing else maps here")
KINDS = ("float32", "float16", "uint32", "int32", "uint8", "int8", "uint64", "bool")


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {kind: rng.integers(0, 2, (7, 9)).astype(kind) for kind in KINDS}
    return found | {"empty": np.zeros((0, 4), np.float32), "one": np.array(3.5, np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(arrays(), tmp_path / "some.safetensors")
    return tmp_path / "some.safetensors"


def mapped(file: Path) -> dict[str, mx.array]:
    return dict(map_tensors(file, read_header(file).tensors, file.stat().st_size).views)


def maps(file: Path) -> int:
    return sum(str(file) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_views_are_what_is_read(file: Path) -> None:
    found, read = mapped(file), mx.load(str(file))
    assert isinstance(read, dict)
    assert set(found) == set(read)
    for name, view in found.items():
        assert (view.dtype, view.shape) == (read[name].dtype, read[name].shape)
        assert np.array_equal(np.array(view), np.array(read[name]))


@pytest.mark.parametrize("name", ["mod\udce8le.safetensors", "modèle 漢.safetensors"])
def test_a_name_that_is_no_utf_8(name: str, file: Path) -> None:
    """As archives of other systems leave them: bytes that Python keeps as lone surrogates."""
    named = file.rename(file.with_name(name))
    found = mapped(named)
    read = read_file(named)
    assert set(found) <= set(read) == set(arrays())
    assert np.array_equal(np.array(found["float32"]), np.array(read["float32"]))
    assert np.array_equal(np.array(found["float32"]), arrays()["float32"])


def test_nothing_is_copied_and_all_is_released(file: Path) -> None:
    gc.collect()  # nothing of an earlier test is freed between the readings
    before = mx.get_active_memory()
    found = mapped(file)
    assert mx.get_active_memory() == before
    assert maps(file) == 1  # one mapping, whoever looks
    last = found["float32"]
    del found
    assert maps(file) == 1
    doubled = last * 2
    mx.eval(doubled)
    del last
    assert maps(file) == 0
    assert np.array_equal(np.array(doubled), arrays()["float32"] * 2)


def test_writing_into_a_view_reaches_no_file(file: Path) -> None:
    raw = file.read_bytes()
    view = mapped(file)["float32"]
    view[0, 0] = 77.0
    view += 1
    mx.eval(view)
    assert file.read_bytes() == raw


def test_a_tensor_that_lies_askew_is_left_to_be_read(tmp_path: Path) -> None:
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}'
    )
    file = tmp_path / "askew.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(5))
    assert (8 + len(header) + 1) % 4
    assert set(mapped(file)) == {"a"}


def test_a_file_that_was_cut_since_is_an_error(file: Path) -> None:
    tensors = read_header(file).tensors
    os.truncate(file, file.stat().st_size - 50)
    with pytest.raises(ModelError, match=r"some\.safetensors has become shorter"):
        map_tensors(file, tensors, file.stat().st_size)


def test_a_change_is_noticed_and_a_replacement_is_harmless(file: Path) -> None:
    held = native.MappedFile(str(file), file.stat().st_size)
    view = held.array(0, [8], mx.uint8)
    wanted = np.array(view).tolist()
    other = file.with_name("other")
    other.write_bytes(bytes(file.stat().st_size))
    os.replace(other, file)
    assert held.unchanged
    assert np.array(view).tolist() == wanted
    os.utime(file, (1, 1))
    assert held.unchanged  # another file by now
    again = native.MappedFile(str(file), file.stat().st_size)
    os.utime(file, (2, 2))
    assert not again.unchanged


@pytest.mark.parametrize(
    ("start", "shape", "dtype", "named"),
    [
        (1, [2], mx.float32, "start"),
        (0, [10**6], mx.float32, "shape"),
        (996, [2], mx.float32, "start and shape"),
        (0, [-1], mx.uint8, "shape"),
        (0, [2**31 - 1] * 4, mx.uint8, "shape"),
        (2**62, [1], mx.uint8, "start"),
    ],
)
def test_a_wrong_view_names_the_argument(tmp_path: Path, start: int, shape: list[int], dtype: Any, named: str) -> None:
    (tmp_path / "raw").write_bytes(bytes(1000))
    held = native.MappedFile(str(tmp_path / "raw"), 1000)
    with pytest.raises(ValueError, match=f"^{named}"):
        held.array(start, shape, dtype)


def test_what_cannot_be_mapped_says_why(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(10))
    os.mkfifo(tmp_path / "pipe")
    for path, size, kind, said in (
        ("raw", 11, ValueError, "size is 11"),
        ("raw", 0, ValueError, "size is 0"),
        ("none", 1, RuntimeError, "No such file"),
        ("pipe", 1, ValueError, "regular file"),
    ):
        with pytest.raises(kind, match=said):
            native.MappedFile(str(tmp_path / path), size)


@pytest.mark.parametrize("kind", ["plain", "affine", "mxfp4", "mxfp8", "nvfp4"])
def test_a_packed_weight_out_of_a_file(kind: str, tmp_path: Path) -> None:
    weight = mx.random.normal((2, 40, 128), key=mx.random.key(0))
    if kind == "plain":
        packed = native.pack_plain(weight.astype(mx.float16))
    else:
        bits, group = {"affine": (4, 32), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}[kind]
        parts = mx.quantize(weight, group_size=group, bits=bits, mode=kind)
        packed = native.pack_quantized(parts[0], parts[1], parts[2] if len(parts) > 2 else None, kind, bits, group)
    layout = native.packed_layout(packed)
    file = tmp_path / "packed"
    file.write_bytes(bytes(64) + bytes(memoryview(packed.data).cast("B")))
    held = native.MappedFile(str(file), file.stat().st_size)
    again = held.packed(64, packed.mode, packed.bits, layout)
    assert (again.shape, again.group, again.symmetric) == (packed.shape, packed.group, packed.symmetric)
    assert np.array_equal(np.array(again.data), np.array(packed.data))
    for place in range(len(layout)):
        with pytest.raises(ValueError, match="layout"):
            held.packed(64, packed.mode, packed.bits, [*layout[:place], 1 << 40, *layout[place + 1 :]])
    for wrong, named in ((1, "start"), (128, "start and layout")):
        with pytest.raises(ValueError, match=f"^{named}"):
            held.packed(wrong, packed.mode, packed.bits, layout)
