"""Files made byte by byte, and decoders written from the formats' own descriptions: the tests' independent side."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxrun.ops.quantized import QuantizedWeight, Weight

NAMES = {"float32": "F32", "float16": "F16", "uint8": "U8", "uint32": "U32", "int64": "I64"}


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert text, "an error without words"
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 500, text
    return text


def values_of(weight: Weight) -> np.ndarray:
    """As float32, bit for bit."""
    return np.array(weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32))


# ---- safetensors --------------------------------------------------------------------------------


def describe(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """(header without metadata, data)."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return header, data


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], format: str | None = "pt") -> None:
    header, data = describe(arrays)
    if format is not None:
        header["__metadata__"] = {"format": format}
    path.write_bytes(safetensors_bytes(header, data))


def write_folder(
    folder: Path, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any] | None = None, format: str | None = "pt"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {}))
    write_safetensors(folder / "model.safetensors", arrays, format)
    return folder


# ---- GGUF ---------------------------------------------------------------------------------------

U32, STRING, ARRAY = 4, 8, 9


def gguf_string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_pair(key: str, kind: int, raw: bytes) -> bytes:
    return gguf_string(key) + struct.pack("<I", kind) + raw


def gguf_info(name: str, extents: Iterable[int], kind: int, offset: int) -> bytes:
    """`extents` fastest axis first, as the file has them."""
    extents = list(extents)
    return gguf_string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset)


def gguf_bytes(pairs: list[bytes], infos: list[bytes], data: bytes, version: int = 3, alignment: int = 32) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    return head + b"\0" * (-len(head) % alignment) + data


def small_gguf() -> bytes:
    """Metadata of several types, an F32 and a Q8_0 tensor."""
    pairs = [
        gguf_pair("general.architecture", STRING, gguf_string("llama")),
        gguf_pair("llama.block_count", U32, struct.pack("<I", 2)),
        gguf_pair(
            "tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 3) + b"".join(map(gguf_string, ("a", "b", "ß")))
        ),
        gguf_pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ3f", 6, 3, 0.5, 1.0, -2.0)),
    ]
    plain = np.arange(8, dtype=np.float32).tobytes()
    block = struct.pack("<e", 0.5) + bytes(range(32))
    infos = [gguf_info("norm", [8], 0, 0), gguf_info("matrix", [32, 2], 8, 32)]
    return gguf_bytes(pairs, infos, plain + block + block)


# ---- decoders -----------------------------------------------------------------------------------

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def codes_of(packed: np.ndarray, bits: int) -> np.ndarray:
    """uint32 words as one stream of bits, low first -> codes."""
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=-1, bitorder="little")
    fields = stream.reshape(*stream.shape[:-1], -1, bits).astype(np.int64)
    return (fields << np.arange(bits)).sum(-1)


def e4m3(code: np.ndarray) -> np.ndarray:
    """1 sign, 4 exponent (bias 7), 3 mantissa; no infinity, all ones are not a number."""
    code = code.astype(np.int64)
    sign = np.where(code & 0x80, -1.0, 1.0)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return np.where((code & 0x7F) == 0x7F, np.nan, sign * value).astype(np.float32)


def e8m0(code: np.ndarray) -> np.ndarray:
    return np.ldexp(np.float32(1), code.astype(np.int32) - 127).astype(np.float32)


def decode(weight: QuantizedWeight) -> np.ndarray:
    codes = codes_of(np.array(weight.packed), weight.bits)
    if weight.mode == "affine":
        wide = np.array(weight.scales.astype(mx.float32)), np.array(weight.biases.astype(mx.float32))
        scale, bias = (np.repeat(part, weight.group, axis=-1) for part in wide)
        return scale * codes.astype(np.float32) + bias
    scales = np.array(weight.scales)
    values = e4m3(codes) if weight.mode == "mxfp8" else E2M1[codes]
    factor = e4m3(scales) if weight.mode == "nvfp4" else e8m0(scales)
    return values * np.repeat(factor, weight.group, axis=-1)
