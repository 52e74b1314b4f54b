"""Quantizing by mlx-lm's own GPTQ, AWQ and DWQ, on a text that is here: nothing is fetched.

Their functions are called as they are, on mlx-lm's class with the checkpoint's weights; only what they would download
is replaced. All weights must fit in memory, DWQ's twice. On a CPU, where half floats are slow, they compute in
float32. What their functions print goes to `told`; their bars become our progress. Knows no text: token ids.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from .. import gpu
from ..compat import bars_of, quiet_import
from ..core import RequestError
from ..ops.quantized import Weight
from ..spec import ModelError
from ..weights.quantized import FLOATS, Layout
from .folder import Making, plain_weight, with_quantization
from .names import Named, named
from .stream import Progress

SEQUENCE = 256  # tokens that are read together
SEED = 0
# GPTQ packs whole codes in a word; DWQ trains scales of fewer than eight bits
BITS = {"gptq": (2, 4, 8), "awq": (2, 3, 4, 5, 6, 8), "dwq": (2, 3, 4, 5, 6)}
FALLBACK_BITS = 6  # of what GPTQ does not reach (embeddings); mlx-lm's own choice
EMBED_BITS = 4  # of embeddings and head under AWQ; mlx-lm's own choice
HELD_OUT = 8  # of so many samples one is for validation, where DWQ learns from the others
RATE, BATCH, STEPS = 1e-5, 2, 64  # of DWQ's Adam; the text is read again until there were so many steps


@dataclass(frozen=True, slots=True)
class Work:
    model: Any  # mlx-lm's, with its weights
    names: Named
    samples: np.ndarray  # (how many, tokens)
    how: Layout


def calibrate(
    method: str,
    ids: Sequence[int],
    how: Layout,
    *,
    dtype: mx.Dtype | None = None,
    progress: Progress | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> Making:
    """`dtype`: of scales and of what is not quantized, when it is written."""
    if how.bits not in BITS[method]:
        raise RequestError(f"mlx-lm's {method} has {', '.join(map(str, BITS[method]))} bits, not {how.bits}.")
    samples = in_samples(ids)

    def make(found: Mapping[str, Weight], config: Mapping[str, Any]) -> tuple[dict[str, mx.array], dict[str, Any]]:
        names = named({name: plain_weight(weight, dtype) for name, weight in found.items()}, config)
        half = dtype or next(array.dtype for array in names.tensors.values() if array.dtype in FLOATS)
        wide = half if gpu.usable() else mx.float32
        model = names.model
        model.load_weights([(name, array.astype(wide)) for name, array in names.tensors.items()], strict=True)
        names.tensors.clear()
        model.eval()
        refuse_what_does_not_divide(method, model, how)
        with watched(method, progress, told):
            METHODS[method](Work(model, names, samples, how))
        return _tensors(model, half), with_quantization(names.config, _layouts(model), how)

    return make


def in_samples(ids: Sequence[int]) -> np.ndarray:
    """Whole rows only; a text that is shorter than one is one row."""
    length = min(SEQUENCE, len(ids))
    if length < 2:
        raise RequestError("The calibration text has fewer than two tokens, so there is nothing to measure on.")
    return np.array(ids[: len(ids) // length * length], np.int32).reshape(-1, length)


def refuse_what_does_not_divide(method: str, model: Any, how: Layout) -> None:
    for name, module in _leaves(model):
        if hasattr(module, "to_quantized") and module.weight.shape[-1] % how.group:
            raise RequestError(
                f"{method} quantizes every module, and the rows of {name} have {module.weight.shape[-1]} values, which "
                f"groups of {how.group} do not divide; --group asks for other groups."
            )


def _leaves(model: Any) -> list[tuple[str, Any]]:
    from mlx.nn import Module
    from mlx.utils import tree_flatten

    found: Any = tree_flatten(model.leaf_modules(), is_leaf=Module.is_module)
    return list(found)


def _tensors(model: Any, half: mx.Dtype) -> dict[str, mx.array]:
    from mlx.utils import tree_flatten

    found: Any = tree_flatten(model.parameters())
    return {name: array.astype(half) if array.dtype in FLOATS else array for name, array in found}


def _layouts(model: Any) -> dict[str, Layout | None]:
    return {
        name: Layout(getattr(module, "mode", "affine"), module.bits, module.group_size)
        if hasattr(module, "bits")
        else None
        for name, module in _leaves(model)
        if hasattr(module, "bits") or hasattr(module, "to_quantized")
    }


# ---- mlx-lm's functions -------------------------------------------------------------------------


def _gptq(work: Work) -> None:
    from mlx_lm.quant.gptq import gptq_quantize

    bits = max(FALLBACK_BITS, work.how.bits)
    gptq_quantize(work.model, mx.array(work.samples), work.how.bits, work.how.group, bits, work.how.group)


def _awq(work: Work) -> None:
    from mlx_lm.quant.awq import AWQ_MODEL_CONFIGS, awq_quantize

    kind = work.names.config.get("model_type")
    if kind not in AWQ_MODEL_CONFIGS:
        raise ModelError(f"mlx-lm's AWQ does not know {kind}; it knows {', '.join(sorted(AWQ_MODEL_CONFIGS))}.")
    group, bits = work.how.group, max(EMBED_BITS, work.how.bits)
    data = mx.array(work.samples)
    awq_quantize(
        work.model, data, AWQ_MODEL_CONFIGS[kind], group, work.how.bits, embed_group_size=group, embed_bits=bits
    )


def _dwq(work: Work) -> None:
    from mlx.optimizers import Adam
    from mlx_lm.quant.dwq import dwq_quantize
    from mlx_lm.utils import quantize_model

    teacher = copy.deepcopy(work.model)
    quantize_model(work.model, {}, work.how.group, work.how.bits)
    rows = [(row.tolist(), 0) for row in work.samples]
    valid = rows[::HELD_OUT]
    train = [row for i, row in enumerate(rows) if i % HELD_OUT] or valid
    train = (train * -(-STEPS * BATCH // len(train)))[: STEPS * BATCH]

    def target(batch: mx.array, index: int, split: str) -> mx.array:
        return mx.stop_gradient(teacher(batch))

    dwq_quantize(
        work.model,
        target,
        Adam(learning_rate=RATE, bias_correction=True),
        train,
        valid if len(valid) >= BATCH else valid * BATCH,
        BATCH,
        SEQUENCE + 1,
        SEED,
        dtype=next(iter(_floats(work.model))),
    )


def _floats(model: Any) -> Iterator[mx.Dtype]:
    return (module.scales.dtype for _, module in _leaves(model) if hasattr(module, "scales"))


METHODS: dict[str, Callable[[Work], None]] = {"gptq": _gptq, "awq": _awq, "dwq": _dwq}


@contextmanager
def watched(method: str, progress: Progress | None, told: Callable[[str], None]) -> Iterator[None]:
    """Around their functions: what they raise is one sentence, and their bars are ours."""
    module = _module(method)

    class LossBar:
        def __init__(self, items: Iterable[Any], total: int | None = None, **others: Any) -> None:
            self._items, self._total = items, total

        def __iter__(self) -> Iterator[Any]:
            total = len(self._items) if self._total is None else self._total  # type: ignore[arg-type]  # theirs is a list then
            for done, item in enumerate(self._items, 1):
                yield item
                if progress is not None:
                    progress(done, max(done, total))

        def set_description(self, **text: str) -> None:
            """The loss of a step, which the validations tell better."""

        @staticmethod
        def write(line: str) -> None:
            told(line)

    try:
        with bars_of(module, LossBar), redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    except ModelError:
        raise
    except Exception as error:  # other people's functions raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"mlx-lm's {method} failed on this model: {lines[0].rstrip('.')}.") from error


def _module(method: str) -> ModuleType:
    from importlib import import_module

    with quiet_import():
        return import_module(f"mlx_lm.quant.{method}")
