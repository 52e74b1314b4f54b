"""The kernel text that MLX makes of a body, written again, and MLX's own text to hold it against.

`generate` follows MLX 0.32.4: template line, signature, attributes, body. `traced` makes MLX itself
write the text, which `mx.export_function` does without a GPU. Knows nothing of C++.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

TYPES = {
    mx.float32: "float",
    mx.float16: "float16_t",
    mx.bfloat16: "bfloat16_t",
    mx.uint64: "uint64_t",
    mx.int64: "int64_t",
    mx.uint32: "uint32_t",
    mx.int32: "int32_t",
    mx.uint16: "uint16_t",
    mx.int16: "int16_t",
    mx.uint8: "uint8_t",
    mx.int8: "int8_t",
    mx.bool_: "bool",
}

# Metal's attributes, in the order in which MLX asks for those that the body names
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}

SMALL = 8  # an input with fewer elements lives in constant memory
Template = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    role: str  # input, shape, strides, ndim or output
    ctype: str  # of one element, as C++ sees it
    by_reference: bool


@dataclass(frozen=True, slots=True)
class Generated:
    name: str
    text: str
    template: str  # "<float16_t, 64>" or nothing
    arguments: tuple[Argument, ...]
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """What `mx.fast.metal_kernel` is given once."""

    name: str
    input_names: Sequence[str]
    output_names: Sequence[str]
    source: str
    header: str = ""
    ensure_row_contiguous: bool = True
    atomic_outputs: bool = False


def generate(
    d: Definition, inputs: Sequence[mx.array], output_dtypes: Sequence[mx.Dtype], template: Template
) -> Generated:
    values = ", ".join(TYPES[v] if isinstance(v, mx.Dtype) else str(int(v)) for _, v in template)
    name = f"custom_kernel_{d.name}"
    if template:
        name += "__" + values.replace("-", "_").replace(", ", "_")
    for a in inputs:
        name += f"_{TYPES[a.dtype]}" + ("s" if a.ndim == 0 else "c" if a.size < SMALL else "")
    name += "".join(f"_{TYPES[t]}" for t in output_dtypes)

    arguments = [a for n, x in zip(d.input_names, inputs, strict=True) for a in _of_input(n, x, d.source)]
    written = []
    for a in arguments:
        where = "constant" if a.role != "input" or _is_small(a.name, d, inputs) else "device"
        kind = "const constant" if a.role != "input" else f"const {where}"
        written.append(f"  {kind} {a.ctype}{'&' if a.by_reference else '*'} {a.name} [[buffer({len(written)})]]")
    for n, t in zip(d.output_names, output_dtypes, strict=True):
        ctype = f"atomic<{TYPES[t]}>" if d.atomic_outputs else TYPES[t]
        arguments.append(Argument(n, "output", ctype, False))
        written.append(f"  device {ctype}* {n} [[buffer({len(written)})]]")
    attributes = [a for a in ATTRIBUTES if a in d.source]
    written += [f"  {ATTRIBUTES[a]} {a} [[{a}]]" for a in attributes]

    text = d.header
    if template:
        text += "template <" + ", ".join(f"{_kind(v)} {n}" for n, v in template) + ">\n"
    text += f"[[kernel]] void {name}(\n" + ",\n".join(written) + ") {\n" + d.source + "\n}\n"
    if template:
        text += f'\ntemplate [[host_name("{name}")]] [[kernel]] decltype({name}<{values}>) {name}<{values}>;\n'
    return Generated(name, text, f"<{values}>" if template else "", tuple(arguments), tuple(attributes))


def _of_input(name: str, x: mx.array, source: str) -> list[Argument]:
    found = [Argument(name, "input", TYPES[x.dtype], x.ndim == 0)]
    if x.ndim == 0:
        return found
    extras = (("shape", "int", False), ("strides", "int64_t", False), ("ndim", "int", True))
    return found + [Argument(f"{name}_{r}", r, c, ref) for r, c, ref in extras if f"{name}_{r}" in source]


def _is_small(name: str, d: Definition, inputs: Sequence[mx.array]) -> bool:
    return inputs[list(d.input_names).index(name)].size < SMALL


def _kind(value: Any) -> str:
    return "typename" if isinstance(value, mx.Dtype) else "bool" if isinstance(value, bool) else "int"


def traced(kernel: Callable[..., Any], inputs: Sequence[mx.array], call: dict[str, Any]) -> str:
    """The text that MLX writes for this call, from the file of an exported function."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.mlxfn"
        mx.export_function(str(path), lambda *a: kernel(inputs=list(a), **call), *inputs)
        data = path.read_bytes()
    # the primitive's name, then two strings with their lengths: the kernel's name and its text
    at = data.index(b"CustomKernel") + len(b"CustomKernel")
    _, at = _string(data, at)
    return _string(data, at)[0].decode()


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length
