"""A safetensors header that lies is refused in one sentence that names the file and the tensor."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from weight_files import describe, one_sentence, safetensors_bytes

from mlxrun.spec import ModelError
from mlxrun.weights.headers import MAX_HEADER, read_header

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4, dtype=np.uint8)}


def changed(**fields: Any) -> bytes:
    """The two tensors, with fields of `a` replaced."""
    header, data = describe(ARRAYS)
    header["a"].update(fields)
    return safetensors_bytes(header, data)


def test_a_good_file(tmp_path: Path) -> None:
    header, data = describe(ARRAYS)
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"__metadata__": {"format": "pt"}, **header}, data))
    found = read_header(path)
    assert found.format == "pt"
    assert found.tensors["a"].shape == (2, 3)
    assert found.tensors["b"].nbytes == 4
    raw = path.read_bytes()
    for name, tensor in found.tensors.items():
        assert raw[tensor.start : tensor.start + tensor.nbytes] == ARRAYS[name].tobytes()


def test_metadata_may_be_null(tmp_path: Path) -> None:
    """As MLX writes it."""
    path = tmp_path / "m.safetensors"
    mx.save_safetensors(str(path), {"a": mx.ones(2)})
    assert b"null" in path.read_bytes()
    assert read_header(path).format is None


def test_scalars_and_empty_tensors_are_tensors(tmp_path: Path) -> None:
    header, data = describe({"s": np.float32(3).reshape(()), "e": np.zeros((2, 0), np.float32)})
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(header, data))
    assert {name: tensor.shape for name, tensor in read_header(path).tensors.items()} == {"s": (), "e": (2, 0)}


def bad_files() -> dict[str, tuple[bytes, str]]:
    header, data = describe(ARRAYS)
    good = safetensors_bytes(header, data)
    twice = b'{"a": %s, "a": %s}' % ((json.dumps(header["a"]).encode(),) * 2)
    gap = {"a": header["a"], "b": {**header["b"], "data_offsets": [25, 29]}}
    overlap = {"a": header["a"], "b": {**header["b"], "data_offsets": [23, 27]}}
    return {
        "empty": (b"", "too short"),
        "seven bytes": (good[:7], "too short"),
        "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "header longer than the file": (struct.pack("<Q", 2**62) + good[8:], "claims"),
        "header absurdly long": (struct.pack("<Q", MAX_HEADER + 1) + b" " * (MAX_HEADER + 1), "believable"),
        "not JSON": (safetensors_bytes(b"{'a': 1}", data), "not valid JSON"),
        "not UTF-8": (safetensors_bytes(b'{"\xff": 1}', data), "not valid JSON"),
        "a list": (safetensors_bytes(b"[1, 2]", data), "one JSON object"),
        "nested without end": (safetensors_bytes(b'{"a":' * 100_000, data), "nested"),
        "a number of many digits": (safetensors_bytes(b'{"a": ' + b"9" * 10_000 + b"}", data), "not valid JSON"),
        "NaN": (safetensors_bytes(b'{"a": NaN}', data), "NaN"),
        "a name twice": (safetensors_bytes(twice, data), "twice"),
        "metadata no strings": (safetensors_bytes({"__metadata__": {"a": 1}, **header}, data), "__metadata__"),
        "metadata a list": (safetensors_bytes({"__metadata__": [], **header}, data), "__metadata__"),
        "tensor no object": (safetensors_bytes({**header, "a": 5}, data), "'a'"),
        "type unknown": (changed(dtype="F7"), "'F7'"),
        "type not text": (changed(dtype=["F32"]), "'a'"),
        "type missing": (changed(dtype=None), "'a'"),
        "type of another size": (changed(dtype="F16"), "12 bytes"),
        "shape of another size": (changed(shape=[3, 3]), "36 bytes"),
        "shape negative": (changed(shape=[-2, -3]), "shape"),
        "shape of truths": (changed(shape=[True, 6]), "shape"),
        "shape of floats": (changed(shape=[2.0, 3.0]), "shape"),
        "shape absurd": (changed(shape=[2**62, 2**62]), "shape"),
        "shape of many axes": (changed(shape=[1] * 100), "shape"),
        "offsets negative": (changed(data_offsets=[-24, 0]), "data_offsets"),
        "offsets three": (changed(data_offsets=[0, 24, 48]), "data_offsets"),
        "offsets turned round": (changed(data_offsets=[24, 0]), "24 to 0"),
        "offsets past the end": (changed(data_offsets=[2**40, 2**40 + 24]), "belong to none"),
        "overlap": (safetensors_bytes(overlap, data[:27]), "overlaps"),
        "gap": (safetensors_bytes(gap, data + b"0"), "belong to none"),
        "truncated": (good[:-1], "1 bytes past"),
        "bytes at the end": (good + b"0", "belong to no tensor"),
        "MLX cannot load it": (changed(dtype="F64", shape=[3]), "'F64'"),
    }


@pytest.mark.parametrize("what", sorted(bad_files()))
def test_a_bad_file(what: str, tmp_path: Path) -> None:
    raw, words = bad_files()[what]
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelError) as error:
        read_header(path)
    text = one_sentence(error.value)
    assert words in text
    assert text.startswith("m.safetensors")


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        with pytest.raises(ModelError) as error:
            read_header(tmp_path / name)
        one_sentence(error.value)


def test_an_absurd_name_is_cut_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"n\n\ud800" * 10_000: 1}, b""))
    with pytest.raises(ModelError) as error:
        read_header(path)
    one_sentence(error.value).encode()  # no lone surrogate is left
