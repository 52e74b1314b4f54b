"""Valid files, broken at random: only a ModelError or success, never another exception, never much memory."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_files import describe, one_sentence, safetensors_bytes, small_gguf, write_safetensors

from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import gather_parts, open_checkpoint

MEMORY = 8 << 20  # for files of a few hundred bytes
MANY = settings(max_examples=400, deadline=None)

ARRAYS = {
    "m.q.weight": np.zeros((2, 8), np.uint32),
    "m.q.scales": np.ones((2, 1), np.float16),
    "m.q.biases": np.ones((2, 1), np.float16),
    "norm.weight": np.ones(3, np.float32),
    "scalar": np.ones((), np.float32),
}
CONFIG = {"quantization": {"group_size": 64, "bits": 4, "mode": "affine", "m.q": {"bits": 4, "group_size": 64}}}
HEADER, DATA = describe(ARRAYS)
SHARD = "model-00001-of-00001.safetensors"
INDEX = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(ARRAYS, SHARD)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Not of one example alone: every test here writes all the files that it reads."""
    return tmp_path_factory.mktemp("broken")


def write(folder: Path, config: bytes, weights: bytes) -> Path:
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def is_survived(path: Path) -> bool:
    """Whether it was read; every array is evaluated."""
    tracemalloc.start()
    try:
        checkpoint = open_checkpoint(path)
        weights = gather_parts(checkpoint.tensors(), checkpoint.config)
        mx.eval([part for w in weights.values() for part in (w.parts if isinstance(w, QuantizedWeight) else (w,))])
        return True
    except ModelError as error:
        one_sentence(error).encode()
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY


NUMBERS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**k + d for k in (7, 8, 15, 16, 31, 32, 53, 62, 63) for d in (-1, 0)] + [2**64 - 1]),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        NUMBERS.map(lambda n: -n),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(["F32", "U32", "F8_E4M3", "pt", "mlx", "affine", "nvfp4", "mxfp4", SHARD, "../" + SHARD]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)


@st.composite
def bytes_changed(draw: st.DrawFn, good: bytes, until: int) -> bytes:
    """Up to four edits before `until`."""
    raw = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(until, len(raw))))
        match draw(st.sampled_from(["set", "insert", "delete", "cut", "number"])):
            case "set":
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                raw[at:at] = draw(st.binary(max_size=9))
            case "delete":
                del raw[at : at + draw(st.integers(1, 9))]
            case "cut":
                del raw[at:]
            case "number":
                number = struct.pack("<Q", draw(NUMBERS))[: draw(st.sampled_from([4, 8]))]
                raw[at : at + len(number)] = number
    return bytes(raw)


@st.composite
def json_changed(draw: st.DrawFn, good: Any) -> Any:
    """Another value at some place, or a place left out."""
    if not isinstance(good, dict | list) or not good or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    places = sorted(good) if isinstance(good, dict) else range(len(good))
    place = draw(st.sampled_from(places))
    copy = dict(good) if isinstance(good, dict) else list(good)
    if draw(st.integers(0, 5)) == 0:
        del copy[place]
    elif isinstance(copy, dict) and draw(st.integers(0, 5)) == 0:
        copy[draw(st.text(max_size=5))] = copy.pop(place)
    else:
        copy[place] = draw(json_changed(copy[place]))
    return copy


GOOD_CONFIG = json.dumps(CONFIG).encode()
GOOD_WEIGHTS = safetensors_bytes({"__metadata__": {"format": "mlx"}, **HEADER}, DATA)


def test_the_files_are_good_before(folder: Path) -> None:
    assert is_survived(write(folder, GOOD_CONFIG, GOOD_WEIGHTS))
    (folder / "m.gguf").write_bytes(small_gguf())
    assert is_survived(folder / "m.gguf")


@MANY
@given(raw=bytes_changed(GOOD_WEIGHTS, len(GOOD_WEIGHTS) - len(DATA)))
def test_bytes_of_a_safetensors_header(folder: Path, raw: bytes) -> None:
    is_survived(write(folder, GOOD_CONFIG, raw))


@MANY
@given(header=json_changed({"__metadata__": {"format": "mlx"}, **HEADER}))
def test_fields_of_a_safetensors_header(folder: Path, header: Any) -> None:
    is_survived(write(folder, GOOD_CONFIG, safetensors_bytes(header, DATA)))


@MANY
@given(raw=bytes_changed(small_gguf(), 340))
def test_bytes_of_a_gguf_header(folder: Path, raw: bytes) -> None:
    (folder / "m.gguf").write_bytes(raw)
    is_survived(folder / "m.gguf")


@MANY
@given(config=json_changed(CONFIG))
def test_fields_of_a_config(folder: Path, config: Any) -> None:
    is_survived(write(folder, json.dumps(config).encode(), GOOD_WEIGHTS))


@MANY
@given(raw=bytes_changed(GOOD_CONFIG, len(GOOD_CONFIG)))
def test_bytes_of_a_config(folder: Path, raw: bytes) -> None:
    is_survived(write(folder, raw, GOOD_WEIGHTS))


@MANY
@given(index=json_changed(INDEX))
def test_fields_of_an_index(tmp_path_factory: pytest.TempPathFactory, index: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "broken-index"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(GOOD_CONFIG)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(folder / SHARD, ARRAYS, "mlx")
    is_survived(folder)
