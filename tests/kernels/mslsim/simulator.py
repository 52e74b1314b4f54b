"""`metal_kernel`, with the signature of `mx.fast.metal_kernel`, run on the CPU and watched.

How to run stands in `settings(...)`, what happened in the list it gives: code under test calls a
kernel exactly as it would call MLX's. Inputs are taken as row-contiguous, as MLX makes them, and may be views: each
buffer begins one element past a page, or past as much as `aligned` says that a kernel asks of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from . import build, operations
from .build import Mode
from .wrapper import TYPES, Argument, Definition, Generated, Template, generate, traced

MOST_THREADS = 512  # Metal gives up to 1024, and fewer to a pipeline with many registers: MLX throws there


class KernelFault(Exception):
    """The kernel did what no kernel may do, or left undone what it must; the message says where."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one buffer."""

    size: int
    asked: int = 0  # that lanes asked to read
    fetched: int = 0  # read, counted once for each threadgroup that reads them
    written: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    name: str
    grid: tuple[int, ...]
    threadgroup: tuple[int, ...]
    buffers: dict[str, Traffic]
    threadgroup_memory: Traffic
    operations: Counter[str]  # by kind, where they were counted


@dataclass(frozen=True, slots=True)
class Settings:
    mode: Mode = Mode.CHECKED
    order: int = 0  # of lanes, simdgroups and threadgroups: 0 rising, 1 falling, else a seed
    races: bool = True
    seconds: int = 60  # of processor time for a launch
    launches: list[Launch] = field(default_factory=list)


_settings: ContextVar[Settings | None] = ContextVar("settings", default=None)


@contextlib.contextmanager
def settings(
    mode: Mode = Mode.CHECKED, order: int = 0, *, races: bool = True, seconds: int = 60
) -> Iterator[list[Launch]]:
    chosen = Settings(mode, order, races, seconds)
    token = _settings.set(chosen)
    try:
        yield chosen.launches
    finally:
        _settings.reset(token)


class Kernel:
    def __init__(
        self,
        definition: Definition,
        aligned: Mapping[str, int] | None = None,
        look: Callable[[Generated], None] | None = None,
    ) -> None:
        if not definition.ensure_row_contiguous:
            raise NotImplementedError("The simulator takes row-contiguous inputs only.")
        self.definition, self.aligned, self.look = definition, aligned or {}, look
        self._own = mx.fast.metal_kernel(
            name=definition.name,
            input_names=list(definition.input_names),
            output_names=list(definition.output_names),
            source=definition.source,
            header=definition.header,
            atomic_outputs=definition.atomic_outputs,
        )
        self._seen: dict[object, Generated] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Template | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: object = None,
    ) -> list[mx.array]:
        how = _settings.get() or Settings()
        if math.prod(threadgroup) > MOST_THREADS:
            raise ValueError(f"A threadgroup of {math.prod(threadgroup)} threads; the limit is {MOST_THREADS}.")
        arrays = [a if isinstance(a, mx.array) else mx.array(a) for a in inputs]
        call = {
            "output_shapes": output_shapes,
            "output_dtypes": output_dtypes,
            "grid": grid,
            "threadgroup": threadgroup,
            "template": list(template) if template else None,
            "init_value": init_value,
        }
        made = self._text(arrays, call)
        if verbose:
            print(made.text)
        source = build.source_of(made, self.definition.header, self.definition.name)
        found: Counter[str] = Counter()
        bound = self._bind(made, arrays, call, how)
        if how.mode is Mode.COUNTED:
            found = operations.counted(
                source, self.definition.name, lambda made: _run(made, bound, grid, threadgroup, how)
            )
        else:
            library = build.compiled(source, how.mode)
            _run(library, bound, grid, threadgroup, how)
            if build.runtime().mslsim_nan_met():
                first = [b.view.copy() for b in bound]
                bound = self._bind(made, arrays, call, how)
                _run(library, bound, grid, threadgroup, how, nan_wins=True)
                _agree(first, bound)
        seen = _launch(self.definition.name, bound, grid, threadgroup, how, init_value is not None)
        how.launches.append(replace(seen, operations=found))
        return [_to_mlx(b.view, b.dtype) for b in bound if b.argument.role == "output" and b.dtype is not None]

    def _bind(self, made: Generated, arrays: Sequence[mx.array], call: dict[str, Any], how: Settings) -> list[Bound]:
        build.runtime().mslsim_begin(int(how.races))
        d = self.definition
        owners = dict(zip(d.input_names, arrays, strict=True))
        shapes = dict(zip(d.output_names, call["output_shapes"], strict=True))
        dtypes = dict(zip(d.output_names, call["output_dtypes"], strict=True))
        bound = []
        for index, a in enumerate(made.arguments):
            given, initialised = call["init_value"], True
            if a.role == "output":
                content, dtype = _output(shapes[a.name], dtypes[a.name], given), dtypes[a.name]
                initialised = given is not None
            else:
                owner = owners[a.name.removesuffix(f"_{a.role}")]
                content, dtype = _content(a, owner), owner.dtype if a.role == "input" else None
            bound.append(_place(a, index, content, dtype, initialised, self.aligned.get(a.name, 1)))
        return bound

    def _text(self, arrays: Sequence[mx.array], call: dict[str, Any]) -> Generated:
        """Our text, proven equal to MLX's own for this signature."""
        template = tuple(call["template"] or ())
        shapes = tuple((a.dtype, a.ndim == 0, a.size < 8) for a in arrays)
        key = (shapes, template, tuple(call["output_dtypes"]))
        if key not in self._seen:
            made = generate(self.definition, arrays, call["output_dtypes"], template)
            text = traced(self._own, arrays, call)
            if text != made.text:
                raise AssertionError(f"MLX writes another text for {made.name}:\n{text}\nours:\n{made.text}")
            if self.look is not None:
                self.look(made)
            self._seen[key] = made
        return self._seen[key]


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    aligned: Mapping[str, int] | None = None,  # bytes that the address of a buffer is a multiple of
    look: Callable[[Generated], None] | None = None,  # is shown every new text before it runs
) -> Kernel:
    own = Definition(name, input_names, output_names, source, header, ensure_row_contiguous, atomic_outputs)
    return Kernel(own, aligned, look)


@dataclass(frozen=True, slots=True)
class Bound:
    argument: Argument
    index: int
    address: int
    view: np.ndarray  # of the simulated memory
    dtype: mx.Dtype | None


def _output(shape: Sequence[int], dtype: mx.Dtype, given: float | None) -> np.ndarray:
    view = np.full(tuple(shape), 0xFF, _numpy(dtype))
    view.view(np.uint8).fill(0xFF)  # NaN, should anybody look
    if given is not None:
        view[...] = _to_numpy(mx.array(given, dtype=dtype))
    return view


def _content(a: Argument, owner: mx.array) -> np.ndarray:
    match a.role:
        case "shape":
            return np.array(owner.shape, np.int32)
        case "strides":
            return np.cumprod([1, *owner.shape[:0:-1]])[::-1].astype(np.int64)
        case "ndim":
            return np.array([owner.ndim], np.int32)
        case _:
            return np.ascontiguousarray(_to_numpy(owner))


def _place(
    a: Argument, index: int, content: np.ndarray, dtype: mx.Dtype | None, initialised: bool, aligned: int
) -> Bound:
    writable = a.role == "output"
    address = build.runtime().mslsim_add(
        a.name.encode(),
        content.nbytes,
        content.itemsize,
        int(writable),
        int(initialised),
        max(aligned, content.itemsize),
    )
    memory = (ctypes.c_char * max(1, content.nbytes)).from_address(address)
    view = np.frombuffer(memory, content.dtype, content.size).reshape(content.shape)
    view[...] = content
    return Bound(a, index, address, view, dtype)


def _run(
    library: ctypes.CDLL,
    bound: Sequence[Bound],
    grid: Sequence[int],
    group: Sequence[int],
    how: Settings,
    nan_wins: bool = False,
) -> None:
    runtime = build.runtime()
    runtime.mslsim_nan(int(nan_wins))
    pointers = (ctypes.c_void_p * len(bound))(*(b.address for b in bound))
    three = ctypes.c_uint32 * 3
    seed = ctypes.c_uint64(how.order)
    if runtime.mslsim_run(library.mslsim_body, pointers, three(*grid), three(*group), seed, how.seconds):
        at = runtime.mslsim_failed_at()
        where = f" at {build.line_of(library, at)}" if at else ""
        raise KernelFault(runtime.mslsim_message().decode() + where)


def _agree(first: Sequence[np.ndarray], bound: Sequence[Bound]) -> None:
    """Outputs must not depend on which of a number and what is none a maximum gives."""
    for before, b in zip(first, bound, strict=True):
        now = b.view
        if b.argument.role == "output" and b.dtype == mx.bfloat16:
            before, now = ((a.astype(np.uint32) << 16).view(np.float32) for a in (before, now))
        same = np.equal(before, now) | ((before != before) & (now != now))
        if not same.all():
            raise KernelFault(f"{b.argument.name} depends on what max or min of a number and NaN gives, as GPUs differ")


def _launch(
    name: str, bound: Sequence[Bound], grid: Sequence[int], group: Sequence[int], how: Settings, initialised: bool
) -> Launch:
    runtime, five = build.runtime(), (ctypes.c_uint64 * 5)()
    buffers = {}
    for b in bound:
        runtime.mslsim_traffic(b.index, five)
        asked, written, fetched, missing, first = five
        if how.mode is Mode.CHECKED and b.argument.role == "output" and missing and not initialised:
            raise KernelFault(
                f"{missing} of {b.view.size} elements of {b.argument.name} are never written, first [{first}]"
            )
        buffers[b.argument.name] = Traffic(b.view.nbytes, asked, fetched, written)
    runtime.mslsim_threadgroup_traffic(five)
    memory = Traffic(five[2], five[0], 0, five[1])
    return Launch(name, tuple(grid), tuple(group), buffers, memory, Counter())


def _numpy(dtype: mx.Dtype) -> Any:
    names = {"bfloat16_t": "uint16", "float16_t": "float16", "float": "float32", "bool": "bool"}
    return np.dtype(names.get(TYPES[dtype], TYPES[dtype].removesuffix("_t")))


def _to_numpy(a: mx.array) -> np.ndarray:
    return np.array(a.view(mx.uint16) if a.dtype == mx.bfloat16 else a)


def _to_mlx(view: np.ndarray, dtype: mx.Dtype) -> mx.array:
    a = mx.array(view.copy())
    return a.view(mx.bfloat16) if dtype == mx.bfloat16 else a
