"""GGUF against the `gguf` package, MLX's own reader and the format's description; and files that lie."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from weight_files import (
    ARRAY,
    STRING,
    U32,
    gguf_bytes,
    gguf_info,
    gguf_pair,
    gguf_string,
    one_sentence,
    small_gguf,
    values_of,
)

from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import gguf as gguf_module
from mlxrun.weights import open_checkpoint
from mlxrun.weights.outline import outline

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}


def write_mixed(path: Path) -> dict[str, np.ndarray]:
    """A file of every kind, by the package's own quantizers and writer; what each tensor stands for."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    random, expected = np.random.default_rng(0), {}
    for kind in KINDS:
        for shape in ((6, 96), (2, 3, 64)):
            number = gguf.GGMLQuantizationType[kind]
            data = gguf.quants.quantize(random.standard_normal(shape).astype(np.float32), number)
            name = f"blk.{len(shape)}.{kind}.weight"
            writer.add_tensor(name, data, raw_dtype=number)
            expected[name] = gguf.quants.dequantize(data, number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_every_kind_bit_for_bit(tmp_path: Path) -> None:
    expected = write_mixed(tmp_path / "m.gguf")
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    tensors = checkpoint.tensors()
    assert set(tensors) == set(expected)
    for name, array in expected.items():
        assert checkpoint.shapes[name] == tensors[name].shape == array.shape
        assert np.array_equal(values_of(tensors[name]), array), name
    assert checkpoint.metadata["llama.block_count"] == 3
    assert checkpoint.metadata["tokenizer.ggml.tokens"] == ["a", "b"]


def test_the_same_codes_and_scales_as_mlx_reads(tmp_path: Path) -> None:
    write_mixed(tmp_path / "m.gguf")
    theirs = mx.load(str(tmp_path / "m.gguf"))
    for name, weight in open_checkpoint(tmp_path / "m.gguf").tensors().items():
        if isinstance(weight, QuantizedWeight):
            module = name.removesuffix("weight")
            for part, other in zip(weight.parts, ("weight", "scales", "biases"), strict=True):
                assert part.dtype == theirs[module + other].dtype
                assert mx.array_equal(part, theirs[module + other]), name
            assert weight.scales.dtype == mx.float16
        elif name.split(".")[2] != "BF16":  # which MLX's reader narrows
            assert mx.array_equal(weight, theirs[name])


# ---- blocks at the ends of the range ------------------------------------------------------------


def blocks_of(kind: str, scale: float, rest: np.ndarray) -> bytes:
    """Blocks with that scale (and, Q4_1, minimum -1) and those codes."""
    head = struct.pack("<e", scale) + (struct.pack("<e", -1.0) if kind == "Q4_1" else b"")
    return b"".join(head + row.tobytes() for row in rest)


def write_blocks(path: Path, kind: str, scale: float) -> np.ndarray:
    codes = np.arange(256, dtype=np.uint8).reshape(-1, 32 if kind == "Q8_0" else 16)
    raw = blocks_of(kind, scale, codes)
    path.write_bytes(gguf_bytes([], [gguf_info("w", [32, codes.shape[0]], NUMBERS[kind], 0)], raw))
    wide = np.float32(np.float16(scale))
    if kind == "Q8_0":
        return wide * codes.view(np.int8).astype(np.float32)
    nibbles = np.concatenate([codes & 15, codes >> 4], axis=-1).astype(np.float32)
    return wide * (nibbles - 8) if kind == "Q4_0" else wide * nibbles + np.float32(-1)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("scale", [0.0, 2.0**-24, -(2.0**-24), 6e-5, 0.0123, -1.7, 511.75, 512, -8184, 8192, 65504])
def test_scales_from_the_smallest_to_the_largest(kind: str, scale: float, tmp_path: Path) -> None:
    expected = write_blocks(tmp_path / "m.gguf", kind, scale)
    weight = open_checkpoint(tmp_path / "m.gguf").tensors()["w"]
    assert np.array_equal(values_of(weight), expected)
    half = abs(scale) < {"Q8_0": 512, "Q4_0": 8192, "Q4_1": 1e9}[kind]  # -128 d and -8 d end at 65504
    assert weight.scales.dtype == (mx.float16 if half else mx.float32)


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_a_scale_that_is_no_number(scale: float, tmp_path: Path) -> None:
    with np.errstate(invalid="ignore"):
        write_blocks(tmp_path / "m.gguf", "Q8_0", scale)
    with pytest.raises(ModelError) as error:
        open_checkpoint(tmp_path / "m.gguf").tensors()
    assert "not a finite number" in one_sentence(error.value)


def test_rope_factors_are_read(tmp_path: Path) -> None:
    factors = np.array([1, 1.5, 8], np.float32)
    (tmp_path / "m.gguf").write_bytes(gguf_bytes([], [gguf_info("rope_freqs.weight", [3], 0, 0)], factors.tobytes()))
    assert open_checkpoint(tmp_path / "m.gguf").rope_factors == {"rope_freqs.weight": (1.0, 1.5, 8.0)}
    (tmp_path / "m.gguf").write_bytes(gguf_bytes([], [gguf_info("rope_freqs.weight", [3], 1, 0)], bytes(6)))
    with pytest.raises(ModelError, match="must be F32"):
        open_checkpoint(tmp_path / "m.gguf")


def test_metadata_of_every_type(tmp_path: Path) -> None:
    plain = {0: ("B", 200), 1: ("b", -3), 2: ("H", 9), 3: ("h", -9), 4: ("I", 7), 5: ("i", -7), 6: ("f", 0.5)}
    plain |= {7: ("?", True), 10: ("Q", 2**63), 11: ("q", -(2**62)), 12: ("d", 0.1)}
    pairs = [gguf_pair(f"k{kind}", kind, struct.pack("<" + code, value)) for kind, (code, value) in plain.items()]
    inner = struct.pack("<IQ", U32, 2) + struct.pack("<2I", 1, 2)
    pairs.append(gguf_pair("nested", ARRAY, struct.pack("<IQ", ARRAY, 2) + inner + inner))
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(pairs, [], b"", version=2))
    found = open_checkpoint(tmp_path / "m.gguf").metadata
    assert found == {f"k{kind}": value for kind, (_, value) in plain.items()} | {"nested": [[1, 2], [1, 2]]}


# ---- parts of a file --------------------------------------------------------------------------------


def test_what_was_opened_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, parsed = tmp_path / "m.gguf", []
    write_mixed(file)
    parse = gguf_module._read
    monkeypatch.setattr(gguf_module, "_read", lambda *given: parsed.append(given) or parse(*given))
    opened = open_checkpoint(file)
    outline(opened)
    opened.read_as("fine").tensors()
    list(opened.losses())
    assert len(parsed) == 1


def write_parts(folder: Path, *, total: int = 3, names: tuple[str, ...] = ("a", "b", "c")) -> list[Path]:
    files = []
    for number, name in enumerate(names):
        pairs = [
            gguf_pair("split.no", 2, struct.pack("<H", number)),
            gguf_pair("split.count", 2, struct.pack("<H", len(names))),
            gguf_pair("split.tensors.count", 5, struct.pack("<i", total)),
        ]
        pairs += [gguf_pair("general.name", STRING, gguf_string("whole"))] if number == 0 else []
        files.append(folder / f"m-{number + 1:05}-of-{len(names):05}.gguf")
        data = np.full(8, number, np.float32).tobytes()
        files[-1].write_bytes(gguf_bytes(pairs, [gguf_info(name, [8], 0, 0)], data))
    return files


@pytest.mark.parametrize("named", [0, 2])
def test_parts_are_one_model(named: int, tmp_path: Path) -> None:
    files = write_parts(tmp_path)
    checkpoint = open_checkpoint(files[named])
    assert checkpoint.files == tuple(files)
    assert checkpoint.metadata["general.name"] == "whole"
    assert {name: float(t[0]) for name, t in checkpoint.tensors().items()} == {"a": 0, "b": 1, "c": 2}
    assert {name: t.shape for name, t in outline(checkpoint).items()} == dict.fromkeys("abc", (8,))


def test_parts_that_are_not_whole(tmp_path: Path) -> None:
    files = write_parts(tmp_path, total=4)
    with pytest.raises(ModelError, match="hold 3 tensors, not 4"):
        open_checkpoint(files[0])
    files = write_parts(tmp_path, names=("a", "b", "a"))
    with pytest.raises(ModelError, match="both have the tensor 'a'"):
        open_checkpoint(files[0])
    files[2].write_bytes(files[1].read_bytes())
    with pytest.raises(ModelError, match="says that it is part 1"):
        open_checkpoint(files[0])
    files[1].unlink()
    with pytest.raises(ModelError, match="is not beside it"):
        open_checkpoint(files[0])
    files[0].rename(tmp_path / "x.gguf")
    with pytest.raises(ModelError, match="is not named as such"):
        open_checkpoint(tmp_path / "x.gguf")


# ---- files that lie -----------------------------------------------------------------------------

BIG = 2**63


def counts(version: int, tensors: int, pairs: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def one(name: str = "w", extents: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return gguf_bytes([], [gguf_info(name, extents, kind, offset)], bytes(64))


def pair(kind: int, raw: bytes) -> bytes:
    return gguf_bytes([gguf_pair("k", kind, raw)], [], b"")


BAD = {
    "empty": (b"", "too short"),
    "not GGUF": (b"GGML" + small_gguf()[4:], "not a GGUF file"),
    "version 1": (gguf_bytes([], [], b"", version=1), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "lying number of tensors": (counts(3, BIG, 0) + bytes(100), "its number of tensors claims"),
    "lying number of metadata": (counts(3, 0, BIG) + bytes(100), "its metadata claims"),
    "lying array": (pair(ARRAY, struct.pack("<IQ", 0, BIG)), "'k' claims"),
    "lying array of strings": (pair(ARRAY, struct.pack("<IQ", STRING, 2**32)), "'k' claims"),
    "lying string": (pair(STRING, struct.pack("<Q", BIG)), "more than are left"),
    "lying key": (counts(3, 0, 1) + struct.pack("<Q", BIG) + bytes(100), "more than are left"),
    "key not UTF-8": (counts(3, 0, 1) + struct.pack("<Q", 1) + b"\xff" + bytes(100), "UTF-8"),
    "key twice": (gguf_bytes([gguf_pair("k", U32, bytes(4))] * 2, [], b""), "twice"),
    "unknown type": (pair(77, bytes(8)), "unknown type 77"),
    "unknown type in an array": (pair(ARRAY, struct.pack("<IQ", 77, 1) + bytes(8)), "unknown type 77"),
    "arrays without end": (pair(ARRAY, struct.pack("<IQ", ARRAY, 1) * 1000), "nested"),
    "cut in the metadata": (small_gguf()[:90], "left of the header"),
    "cut in the tensors' list": (small_gguf()[:300], "left of the header"),
    "cut in the data": (small_gguf()[:-1], "1 bytes past the file's end; part of it is missing"),
    "no axes": (one(extents=()), "0 axes"),
    "many axes": (one(extents=(1,) * 5), "5 axes"),
    "an empty axis": (one(extents=(8, 0)), "shape"),
    "absurd axes": (one(extents=(2**62, 2**62)), "shape"),
    "large axes": (one(extents=(2**31 - 1,) * 4), "past the file's end"),
    "rows that are no blocks": (one(extents=(33, 2), kind=8), "not a multiple of Q8_0's 32"),
    "a quantized vector": (one(extents=(32,), kind=8), "a vector stored as Q8_0"),
    "offset not aligned": (one(offset=4), "multiple of 32"),
    "offset past the end": (one(offset=2**62), "past the file's end"),
    "overlap": (gguf_bytes([], [gguf_info("a", [16], 0, 0), gguf_info("b", [8], 0, 32)], bytes(64)), "'b' overlaps"),
    "a name twice": (gguf_bytes([], [gguf_info("a", [8], 0, o) for o in (0, 32)], bytes(64)), "'a' stands there twice"),
    "a part of several": (gguf_bytes([gguf_pair("split.count", 2, b"\3\0")], [], b""), "one of 3 parts"),
    "parts without number": (gguf_bytes([gguf_pair("split.count", 5, b"\xff" * 4)], [], b""), "split.count"),
    "alignment 0": (gguf_bytes([gguf_pair("general.alignment", U32, bytes(4))], [], b""), "power of two"),
    "alignment 48": (gguf_bytes([gguf_pair("general.alignment", U32, struct.pack("<I", 48))], [], b""), "power of two"),
    "alignment a string": (gguf_bytes([gguf_pair("general.alignment", STRING, gguf_string("x"))], [], b""), "power"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_costs_nothing(what: str, tmp_path: Path) -> None:
    raw, words = BAD[what]
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as error:
            open_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    text = one_sentence(error.value)
    assert text.startswith("m.gguf")
    assert words in text


@pytest.mark.parametrize(("kind", "label"), [(9, "Q8_1"), (24, "I8"), (28, "F64"), (41, "Q1_0"), (99, "type 99")])
def test_kinds_that_are_not_read_are_named(kind: int, label: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(one(extents=(256,), kind=kind))
    with pytest.raises(ModelError) as error:
        open_checkpoint(tmp_path / "m.gguf")
    assert f"'w' is stored as {label}, which is not read yet" in one_sentence(error.value)


def test_names_of_kinds_are_those_of_the_package() -> None:
    from mlxrun.weights.gguf import BLOCKS, OTHERS

    ours = {number: label for number, (label, _, _) in BLOCKS.items()} | OTHERS
    assert ours.pop(4) == "MXFP4_RAW"  # Ollama's own
    assert ours == {kind.value: kind.name for kind in gguf.GGMLQuantizationType if kind.value in ours}
    for number, (_, values, nbytes) in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(39 if number == 4 else number)] == (values, nbytes)
