"""Kernel objects, made once each from a header and a body that lie beside this file.

The bodies are template text: what differs by call is a template argument, never a change of the text.
`library.make` is `mx.fast.metal_kernel`; tests put a simulator in its place. Knows no kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx

FOLDER = Path(__file__).parent
Three = tuple[int, int, int]


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
    made: dict[str, Any] = field(default_factory=dict)

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
    """`groups` threadgroups of `threads` threads in a row; every threadgroup is full."""
    x, y, z = groups
    return library.kernel(body)(
        inputs=list(inputs),
        output_shapes=[shape for shape, _ in outputs],
        output_dtypes=[dtype for _, dtype in outputs],
        template=list(template.items()),
        grid=(x * threads, y, z),
        threadgroup=(threads, 1, 1),
    )


@lru_cache(maxsize=256)
def number(*values: float) -> mx.array:
    """Constants of a call as an array, made once."""
    return mx.array(values, mx.float32)


@contextmanager
def made_by(make: Callable[..., Any]) -> Iterator[None]:
    """Another maker of kernel objects for a while."""
    before = library.make, library.made
    library.make, library.made = make, {}
    try:
        yield
    finally:
        library.make, library.made = before
