"""Our Metal kernels as `mx.fast.cuda_kernel` takes them, and the text that MLX makes of one, written again.

`cuda_kernel` stands in for `mx.fast.metal_kernel` where there is an NVIDIA card. A warp is a simdgroup and a block a
threadgroup; every block is full, because our grids are whole threadgroups. Kernels of 8x8 matrices have no twin in
plain CUDA. Compiled by NVRTC, never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..mslsim.build import DECLARED

PRELUDE = Path(__file__).parent / "prelude.h"
MATRICES = ("qmv_few", "qmm")  # without a twin
# mlx/backend/cuda/utils.cpp of MLX 0.32.4
TYPES = {
    mx.bool_: "bool",
    mx.int32: "int32_t",
    mx.uint8: "uint8_t",
    mx.uint16: "uint16_t",
    mx.uint32: "uint32_t",
    mx.float16: "__half",
    mx.bfloat16: "__nv_bfloat16",
    mx.float32: "float",
}
LED_BY = '\n#include "mlx/backend/cuda/device/utils.cuh"\n\n#include <cooperative_groups.h>\n\n'


class NoTwin(RuntimeError):
    """This kernel works in 8x8 matrices."""


def cuda_kernel(**definition: Any) -> Callable[..., Any]:
    """As `mx.fast.metal_kernel`."""
    return mx.fast.cuda_kernel(**as_cuda(definition))


def as_cuda(definition: dict[str, Any]) -> dict[str, Any]:
    name = definition["name"]
    if name.removeprefix("mlxrun_") in MATRICES:
        raise NoTwin(f"{name} works in 8x8 matrices, for which plain CUDA has nothing alike.")
    header = PRELUDE.read_text(encoding="utf-8") + shared(definition["header"])
    return {**definition, "source": shared(definition["source"]), "header": header}


def shared(text: str) -> str:
    """Threadgroup memory where it is declared; the word goes elsewhere, where it is part of a pointer's type."""
    return re.sub(r"\bthreadgroup\b", "", DECLARED.sub(r"__shared__ \1 \2\3;", text))


def generated(definition: dict[str, Any], call: dict[str, Any]) -> tuple[str, str]:
    """The kernel's name and its whole text, as mlx/backend/cuda/custom_kernel.cpp of MLX 0.32.4 puts it together."""
    made = as_cuda(definition)
    lines: list[str] = []
    for name, array in zip(made["input_names"], call["inputs"], strict=True):
        lines.append(f"    const {TYPES[array.dtype]}* {name}")
        for part, kind in (("shape", "Shape"), ("strides", "Strides"), ("ndim", "int")):
            if array.ndim and f"{name}_{part}" in made["source"]:
                lines.append(f"    const __grid_constant__ {kind} {name}_{part}")
    outputs = zip(made["output_names"], call["output_dtypes"], strict=True)
    lines += [f"    {TYPES[dtype]}* {name}" for name, dtype in outputs]
    name = f"custom_kernel_{made['name']}"
    body = "".join(map(constant, call["template"])) + "\n" + made["source"]
    parameters = ",\n".join(lines)
    text = (
        f"{LED_BY}{made['header']}namespace mlx::core::cu {{\n\nnamespace cg = cooperative_groups;\n\n"
        f"__global__ void {name}(\n{parameters}) {{\n{body}\n}}\n\n}} // namespace mlx::core::cu\n"
    )
    return f"mlx::core::cu::{name}", text


def constant(argument: tuple[str, Any]) -> str:
    name, value = argument
    if isinstance(value, mx.Dtype):
        return f"  using {name} = {TYPES[value]};\n"
    kind = "bool" if isinstance(value, bool) else "int"
    return f"  constexpr {kind} {name} = {str(value).lower()};\n"


def calls_of(make: Callable[..., Any], run: Callable[[], object]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What a run hands to kernels: each definition with each of its calls. `make` makes those that run."""
    from mlxrun.metal_kernels import launch

    found: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def making(**definition: Any) -> Callable[..., Any]:
        kernel = make(**definition)

        def called(**call: Any) -> Any:
            found.append((definition, call))
            return kernel(**call)

        return called

    with launch.made_by(making):
        run()
    return found


def distinct(calls: Sequence[tuple[dict[str, Any], dict[str, Any]]], name: str) -> dict[str, str]:
    """Text -> the name of its kernel, of all calls of one kernel."""
    texts = (generated(*one) for one in calls if one[0]["name"] == f"mlxrun_{name}")
    return {text: kernel for kernel, text in texts}
