"""What `bench/gpu.py` asks of an NVIDIA card, each part in a process of its own. Never run on one.

Without a card every part says so. `make`, `size` and the like are arguments, so that tests run the same code on a CPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels import launch

from mlxrun import gpu
from mlxrun.core import Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.refused_layouts import by_expert, by_matrix
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.selftest import families as small_models
from mlxrun.selftest import metal_cases
from mlxrun.selftest import starter as smollm2
from mlxrun.selftest.kernels import QUICK_METAL, told
from mlxrun.selftest.notes import Notes
from mlxrun.selftest.results import NotRun
from mlxrun.selftest.truth import KernelCase, drawn, weight, wide
from tests.kernels.cuda.custom import MATRICES, cuda_kernel

from .mixture import Mixture, write

SPARE = 5.0  # seconds before the deadline at which nothing more is begun
AFFINE = tuple(("affine", bits, group) for bits, group in product((2, 3, 4, 5, 6, 8), (32, 64, 128)))
LAYOUTS = (*AFFINE, ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16))
SHAPES = ((128, 128), (576, 1536), (1000, 640), (33, 96), (17, 128))  # outputs, inputs
ROWS = (1, 4, 8, 33)
ALLOWED = {mx.float16: 1e-2, mx.bfloat16: 4e-2}  # of the largest output; sums in float32 are far better
STREAMS = (1, 4, 8)


def need_card() -> None:
    if not gpu.usable() or gpu.metal():
        raise NotRun(f"There is no NVIDIA card here: {gpu.why_not() or 'the GPU is driven by Metal.'}")


def layouts(notes: Notes, need: Callable[[], None] = need_card, shapes: Sequence[tuple[int, int]] = SHAPES) -> str:
    """Which quantized products MLX computes there, and whether they are right; one that is refused is no fault."""
    need()
    refused, count = dict[str, str](), 0
    for layout, (outputs, inner), dtype in product(LAYOUTS, shapes, ALLOWED):
        if inner % layout[2]:
            continue
        if notes.left < SPARE:
            break
        name = f"{'-'.join(map(str, layout))} {outputs}x{inner} {str(dtype).split('.')[-1]}"
        notes.begin(name)
        matrix, value = weight((outputs, inner), layout, dtype)
        stack, values = weight((3, outputs, inner), layout, dtype)
        for kind, call, w, v in (("matrix", by_matrix, matrix, value), ("experts", by_expert, stack, values[0])):
            off = worst_of(call, w, v, dtype)
            count += 1
            if isinstance(off, str):
                refused[f"{kind} {name}"] = off
            elif off > ALLOWED[dtype]:
                notes.check(f"{kind} {name}", False, f"off by {off:.1e} of the largest output")
    notes.number("refused", refused)
    return f"{count} products, {len(refused)} of them refused, the others right"


def worst_of(
    call: Callable[[mx.array, QuantizedWeight], mx.array], w: QuantizedWeight, value: Any, dtype: mx.Dtype
) -> float | str:
    """The largest difference, as a part of the largest output; or what MLX says instead of computing it."""
    worst = 0.0
    for rows in ROWS:
        x = drawn((rows, w.shape[-1]), dtype, rows)
        try:
            y = call(x, w)
            mx.eval(y)
        except (RuntimeError, ValueError) as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        exact = wide(x) @ value.T
        off = float(np.abs(wide(y).reshape(exact.shape) - exact).max() / np.abs(exact).max())
        worst = max(worst, off if np.isfinite(off) else float("inf"))
    return worst


def families(notes: Notes) -> str:
    need_card()
    return small_models.compare(notes)


def kernels(notes: Notes, need: Callable[[], None] = need_card, make: Callable[..., Any] = cuda_kernel) -> str:
    """Our Metal texts through the CUDA prelude; those that models use most come first, for compiling takes seconds."""
    need()
    with launch.made_by(make):
        if notes.quick:
            return told(notes, "CUDA", with_twin(metal_cases.cases(QUICK_METAL[:1], (mx.bfloat16,))), timed=True)
        first = metal_cases.cases(QUICK_METAL, (mx.bfloat16, mx.float16))
        return told(notes, "CUDA", with_twin(first), timed=True)


def with_twin(cases: Iterator[KernelCase]) -> Iterator[KernelCase]:
    return (case for case in cases if case.name.split()[0] not in (*MATRICES, "qmm_experts"))


def starter(notes: Notes) -> str:
    need_card()
    return smollm2.answer(notes)


def mixture(notes: Notes, need: Callable[[], None] = need_card, size: Mixture | None = None) -> str:
    """Ours beside mlx-lm's class on the same quantized weights, and how fast: prompts of mixtures were slow there."""
    need()
    size = size or (Mixture(layers=2, experts=16) if notes.quick else Mixture())
    with tempfile.TemporaryDirectory(prefix="mlxrun-card-") as folder:
        notes.begin("making it")
        theirs = write(Path(folder), size)
        ids = [(7 + 13 * i) % size.vocab for i in range(size.prompt)]
        notes.begin("its logits beside mlx-lm's")
        expected = wide(theirs(mx.array([ids]))[0, -1])
        del theirs
        engine = Engine.start(lambda: load_model(folder, options=LoadOptions(context=2048)), 2048)
        try:
            model = load_model(folder, options=LoadOptions(context=256))
            memory = model.new_sequence()
            found = wide(model.logits(model(mx.array(ids, mx.int32), [(memory, len(ids))])[-1:])[0])
            off = float(np.abs(found - expected).max() / np.abs(expected).max())
            notes.check("logits", off < ALLOWED[mx.bfloat16], f"off by {off:.1e} of the largest from mlx-lm's")
            rates = speeds(engine, size, notes, 8 if notes.quick else 64)
        finally:
            engine.close()
    notes.number("tokens_a_second", rates)
    return f"{rates['1']:.0f} tokens/s alone, {rates['8']:.0f} by 8, {rates['prompt']:.0f} of a prompt"


def speeds(engine: Engine, size: Mixture, notes: Notes, steps: int) -> dict[str, float]:
    """The first time of each is not counted."""
    found = {}
    for streams in STREAMS:
        for count in (2, steps):
            notes.begin(f"{streams} streams of {count} tokens")
            prompts = [tuple((11 * stream + 13 * i) % size.vocab for i in range(32)) for stream in range(streams)]
            began = time.perf_counter()
            handles = [engine.submit(Request(prompt, count, Sampling(temperature=0))) for prompt in prompts]
            for handle in handles:
                list(handle)
            found[str(streams)] = streams * count / (time.perf_counter() - began)
    for first in (3, 5):
        notes.begin("a prompt of 512 tokens")
        ids = tuple((first + 7 * i) % size.vocab for i in range(512))
        *_, last = engine.submit(Request(ids, 1, Sampling(temperature=0)))
        assert last.usage is not None
        found["prompt"] = last.usage.prompt_tokens / max(last.usage.prefill_seconds, 1e-9)
    return found
