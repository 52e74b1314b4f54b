"""Kernel objects, made once each from a header and a body that lie beside this file.

The bodies are template text: what differs by call is a template argument, never a change of the text.
`library.make` is `mx.fast.metal_kernel`; tests put a simulator in its place. Knows no kernel.

MLX compiles a kernel when its first answer is computed, long after the call. So the first launch of each pipeline is
computed at once: what the device refuses then is `KernelRefused`, here, and the caller can still take another form.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx

FOLDER = Path(__file__).parent
Three = tuple[int, int, int]
Pipeline = tuple[Any, ...]  # all that decides how a kernel is compiled and how many threads it must bear
CONSTANT = 8  # inputs that are smaller are in another address space: another text


class KernelRefused(RuntimeError):
    """The device does not run this kernel; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Body:
    """A kernel: the file of its body, the headers it needs, what goes in and out."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    headers: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return _text(f"{self.name}.metal")

    @property
    def header(self) -> str:
        return "".join(_text(name) for name in self.headers)


@cache
def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@dataclass
class Library:
    make: Callable[..., Any] = mx.fast.metal_kernel
    compute: Callable[..., object] = mx.eval  # for who traces a graph, nothing
    made: dict[str, Any] = field(default_factory=dict)
    ran: set[Pipeline] = field(default_factory=set)  # whose first launch was computed
    refused: dict[Pipeline, str] = field(default_factory=dict)  # by the device, and why

    def kernel(self, body: Body) -> Any:
        if body.name not in self.made:
            self.made[body.name] = self.make(
                name=f"mlxrun_{body.name}",
                input_names=list(body.inputs),
                output_names=list(body.outputs),
                source=body.source,
                header=body.header,
            )
        return self.made[body.name]

    @property
    def simulated(self) -> bool:
        """Somebody else makes them, so they run without Metal."""
        return self.make is not mx.fast.metal_kernel

    def doubt(self) -> None:
        """The next launch of each is computed by itself again."""
        self.ran.clear()

    def refuse(self, pipelines: Iterable[Pipeline], why: str) -> None:
        """None of them is launched again."""
        for pipeline in pipelines:
            self.ran.discard(pipeline)
            self.refused[pipeline] = f"{pipeline[0]}: {why}"


library = Library()


def launch(
    body: Body,
    inputs: Sequence[mx.array],
    outputs: Sequence[tuple[tuple[int, ...], mx.Dtype]],
    template: dict[str, Any],
    *,
    groups: Three,
    threads: int,
) -> list[mx.array]:
    """`groups` threadgroups of `threads` threads in a row; every threadgroup is full. Or `KernelRefused`."""
    x, y, z = groups

    def answers() -> list[mx.array]:
        found: list[mx.array] = library.kernel(body)(
            inputs=list(inputs),
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[dtype for _, dtype in outputs],
            template=list(template.items()),
            grid=(x * threads, y, z),
            threadgroup=(threads, 1, 1),
        )
        return found

    kinds = ((a.dtype, a.size < CONSTANT) for a in inputs)
    pipeline = (body.name, threads, *template.values(), *kinds, *(dtype for _, dtype in outputs))
    on_this_thread.launched[pipeline] = None
    return answers() if pipeline in library.ran else _first(pipeline, inputs, answers)


def _first(pipeline: Pipeline, inputs: Sequence[mx.array], answers: Callable[[], list[mx.array]]) -> list[mx.array]:
    if pipeline not in library.refused:
        library.compute(*inputs)  # what fails in these is not this kernel's fault
        try:
            found = answers()
            library.compute(found)
        except (RuntimeError, ValueError) as error:
            library.refuse([pipeline], told(error))
        else:
            library.ran.add(pipeline)
            return found
    raise KernelRefused(library.refused[pipeline])


def told(error: Exception) -> str:
    """A line of it. Metal's compiler writes many, and says in the first one only that it failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    chosen = dict.fromkeys([*lines[:1], *[line for line in lines if "error:" in line][:1]])
    return " ".join(chosen) or type(error).__name__


class OnThisThread(threading.local):
    """An engine's thread builds all of its passes, and none of another's."""

    def __init__(self) -> None:
        self.launched: dict[Pipeline, None] = {}

    def take(self) -> tuple[Pipeline, ...]:
        """What was launched since this was last asked."""
        taken, self.launched = tuple(self.launched), {}
        return taken


on_this_thread = OnThisThread()


@lru_cache(maxsize=256)
def number(*values: float) -> mx.array:
    """Constants of a call as an array, made once."""
    return mx.array(values, mx.float32)


@contextmanager
def made_by(make: Callable[..., Any], compute: Callable[..., object] = mx.eval) -> Iterator[None]:
    """Another maker of kernel objects for a while, of which nothing was run yet."""
    before = vars(library).copy()
    vars(library).update(vars(Library(make, compute)))
    try:
        yield
    finally:
        vars(library).update(before)
