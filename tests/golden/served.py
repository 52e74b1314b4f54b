"""Which fast forms serve a model: heard at their doors while it runs, and told from its spec beforehand.

Knows the forms of the native CPU kernels, which a person's load reaches; those in Metal have tests of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlxrun.nn.stack import LayerStack, parts_of
from mlxrun.ops import fused, matmul
from mlxrun.ops.fast_forms import ATTENTION, DENSE
from mlxrun.ops.native import native
from mlxrun.spec import Decoder, DenseAndExperts, MoE

DOORS = {
    fused.Heads: "attention branch",
    fused.FeedForward: "dense branch",
    fused.Experts: "experts",
    LayerStack: "stack",
}


@contextmanager
def listening() -> Iterator[Counter[str]]:
    """How often each form is called meanwhile."""
    heard: Counter[str] = Counter()

    def counted(form: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def through(*args: Any, **named: Any) -> Any:
            heard[form] += 1
            return call(*args, **named)

        return through

    with pytest.MonkeyPatch.context() as patch:
        for kind, form in DOORS.items():
            patch.setattr(kind, "__call__", counted(form, kind.__call__))
        if native is not None:
            patch.setattr(matmul.native, "matmul", counted("products", native.matmul))
        yield heard


def reach(decoder: Decoder) -> set[str]:
    """The forms that serve this model where its weights are packed."""
    found = {"products"}
    if any(ATTENTION.serves(layer) for layer in decoder.layers):
        found.add("attention branch")
    if any(DENSE.serves(layer) for layer in decoder.layers):
        found.add("dense branch")
    if any(isinstance(layer.ffn, MoE | DenseAndExperts) for layer in decoder.layers):
        found.add("experts")
    parts = (part for number, layer in enumerate(decoder.layers) for part in parts_of(number, layer, False))
    if decoder.kind == "decoder" and any(part.served for part in parts):
        found.add("stack")
    return found
