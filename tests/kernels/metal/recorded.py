"""What a launcher hands to its kernel, written down instead of run: no kernel is compiled, answers are zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlxrun.metal_kernels import launch

FEWEST, MOST_THREADS, THREADGROUP_MEMORY = 32, 512, 32768  # of a threadgroup, that any pipeline takes on Apple's GPUs


@dataclass(frozen=True)
class Call:
    kernel: str
    inputs: list[mx.array]
    outputs: list[tuple[tuple[int, ...], mx.Dtype]]
    template: dict[str, Any]
    groups: tuple[int, int, int]
    threads: int


def recorded(run: Callable[[], object]) -> list[Call]:
    calls: list[Call] = []

    def make(**definition: Any) -> Callable[..., list[mx.array]]:
        def kernel(**how: Any) -> list[mx.array]:
            threads, *rest = how["threadgroup"]
            assert rest == [1, 1]
            assert FEWEST <= threads <= MOST_THREADS
            assert how["grid"][0] % threads == 0, "a threadgroup that is not full"
            assert len(how["inputs"]) == len(definition["input_names"])
            outputs = list(zip(how["output_shapes"], how["output_dtypes"], strict=True))
            assert len(outputs) == len(definition["output_names"])
            groups = (how["grid"][0] // threads, *how["grid"][1:])
            name = definition["name"].removeprefix("mlxrun_")
            calls.append(Call(name, how["inputs"], outputs, dict(how["template"]), groups, threads))
            return [mx.zeros(shape, dtype) for shape, dtype in outputs]

        return kernel

    with launch.made_by(make):
        run()
    return calls
