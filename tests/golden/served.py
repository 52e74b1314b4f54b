"""Which fast forms serve a model: heard at their doors while it runs, and told from its spec beforehand.

Knows the forms of the native CPU kernels, which a person's load reaches; those in Metal have tests of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlxrun.ops import fused, matmul
from mlxrun.ops.fast_forms import ATTENTION, DENSE, STACK
from mlxrun.ops.native import native
from mlxrun.spec import Attention, Decoder, DenseAndExperts, MoE

DOORS = {
    fused.Heads: "attention branch",
    fused.FeedForward: "dense branch",
    fused.Experts: "experts",
    fused.FusedStack: "stack",
}


@contextmanager
def listening() -> Iterator[Counter[str]]:
    """How often each form is called meanwhile. A stack calls its layers' branches itself, unheard."""
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
    ropes = {layer.mixer.rope for layer in decoder.layers if isinstance(layer.mixer, Attention)} - {None}
    if STACK.serves(decoder) and len(ropes) <= 1:
        found.add("stack")
    return found
