"""Bits for each module by what it does to the answers: measured one module at a time, then shared out under a budget.

Sensitivity is the KL divergence on a text when one module alone is quantized coarsely (`PROBE`) and all others are
not. For other layouts it is taken to grow with the square of the weights' relative error, which is measured too.
Bits go, step by step, where they take away the most divergence for their size. The model runs in full precision
for this, so it must fit in memory; what is unmeasured is how errors of several modules add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..core import RequestError
from ..weights import Checkpoint
from ..weights.quantized import Layout
from ..weights.repack import relative_error
from .folder import plain_weight, source
from .names import Named, named
from .trial import trial_of
from .weight_layout import Wanted, quantize

PROBE = Layout("affine", 3, 64)
CHOICES = tuple(Layout("affine", bits, 64) for bits in (2, 3, 4, 5, 6, 8))
SAMPLE = 1 << 18  # values of a weight that its error is measured on
Progress = Callable[[int, int], None]  # (modules measured, all of them)


@dataclass(frozen=True, slots=True)
class Option:
    layout: Layout
    bits: float  # of the whole weight, scales and biases included
    cost: float  # nats a token that it is expected to add


def choose_mixed(
    checkpoint: Checkpoint,
    ids: Sequence[int],
    *,
    bits: float | None = None,
    file_bytes: int | None = None,
    dtype: mx.Dtype | None = None,
    progress: Progress | None = None,
) -> Wanted:
    """`bits` a weight on average, over what can be quantized; or the size that all weights together may have."""
    weights, config = source(checkpoint)
    half = dtype or mx.float16
    names = named({name: plain_weight(weight, None) for name, weight in weights.items()}, config)
    modules = {name: names.tensors[f"{name}.weight"] for name, advice in names.advice.items() if advice is not False}
    modules = {name: weight for name, weight in modules.items() if weight.shape[-1] % PROBE.group == 0}
    if not modules:
        raise RequestError("No weight of this model has rows that groups of 64 divide, so there is nothing to choose.")
    size = sum(weight.size for weight in modules.values())
    if file_bytes is not None:
        rest = sum(array.size for array in names.tensors.values()) - size
        bits = 8 * (file_bytes - rest * half.size) / size
    least, most = (how.bits + 16 * half.size / how.group for how in (CHOICES[0], CHOICES[-1]))
    if not (bits or 0) >= least:  # known before anything is measured, which takes minutes
        raise too_small(least * size, (bits or 0) * size)
    if bits is not None and bits >= most:
        return Wanted(CHOICES[-1], lambda module, shape: CHOICES[-1] if module in modules else None)
    table = measure_modules(names, modules, ids, half, progress)
    chosen = share_out(table, (bits or 0) * size)
    return Wanted(PROBE if not chosen else _usual(chosen), lambda module, shape: chosen.get(module))


def measure_modules(
    names: Named,
    modules: Mapping[str, mx.array],
    ids: Sequence[int],
    half: mx.Dtype = mx.float16,
    progress: Progress | None = None,
) -> dict[str, list[Option]]:
    """Module -> its options, the smallest first. `half`: the type of scales."""
    found = sensitivities(names, modules, ids, progress)
    return {name: options(weight, found[name], half.size) for name, weight in modules.items()}


def sensitivities(
    names: Named, modules: Mapping[str, mx.array], ids: Sequence[int], progress: Progress | None = None
) -> dict[str, float]:
    """Module -> KL(full precision || this one at PROBE), nats a token."""
    trial, found = trial_of(names), {}
    reference = trial.logp(ids)
    for done, (name, weight) in enumerate(modules.items(), 1):
        coarse = quantize(weight, PROBE).dequantize(mx.float32)
        found[name] = divergence(reference, trial.logp(ids, {name: coarse}))
        if progress is not None:
            progress(done, len(modules))
    return found


def divergence(reference: mx.array, other: mx.array) -> float:
    """KL(reference || other) of log-probabilities, nats a token."""
    return float(np.array((mx.exp(reference) * (reference - other)).sum(axis=-1).mean()))


def options(weight: mx.array, divergence: float, scale_bytes: int) -> list[Option]:
    """Every choice for a weight, the smallest first."""
    flat = weight.reshape(-1, weight.shape[-1])
    sample = flat[:: max(1, flat.size // SAMPLE)].astype(mx.float32)
    errors = {how: relative_error(quantize(sample, how).dequantize(mx.float32), sample) for how in CHOICES}
    unit = max(divergence, 0.0) / max(errors[PROBE], 1e-12) ** 2
    return [
        Option(how, weight.size * (how.bits + 16 * scale_bytes / how.group), unit * errors[how] ** 2) for how in CHOICES
    ]


def share_out(table: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Layout]:
    """From the smallest choices on, always the step that saves the most divergence for its bits, while it fits."""
    at = dict.fromkeys(table, 0)
    left = budget - sum(choices[0].bits for choices in table.values())
    if left < 0:
        raise too_small(budget - left, budget)
    while True:
        best = max(
            (
                ((choices[at[name]].cost - further.cost) / (further.bits - choices[at[name]].bits), name, step)
                for name, choices in table.items()
                for step, further in enumerate(choices)
                if step > at[name] and further.bits - choices[at[name]].bits <= left
            ),
            default=None,
        )
        if best is None:
            return {name: table[name][step].layout for name, step in at.items()}
        _, name, step = best
        left -= table[name][step].bits - table[name][at[name]].bits
        at[name] = step


def too_small(least: float, asked: float) -> RequestError:
    """Both in bits."""
    return RequestError(
        f"Even at two bits what can be quantized has {least / 8e6:,.1f} MB; what was asked for leaves "
        f"{max(asked, 0) / 8e6:,.1f} MB for it."
    )


def _usual(chosen: Mapping[str, Layout]) -> Layout:
    layouts = list(chosen.values())
    return max(set(layouts), key=layouts.count)
