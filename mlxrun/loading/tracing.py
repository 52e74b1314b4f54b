"""What goes on inside a model while it reads a text: a job for its engine, which does a layer of it at a time.

Only of models with blocks of ours. What fused forms compute nobody can see, so they are traced only by who asks for the
plain ones. Knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..cache.sequence import SequenceCache
from ..core import RequestError
from ..nn.forms import APART, forms_of
from ..nn.trace import KINDS, shows, trace
from ..spec import Decoder
from .model import Model, Runnable

Shown = NDArray[np.float32]
MOST = 2 << 30  # bytes of what is given back


@dataclass(frozen=True)
class TraceJob:
    tokens: tuple[int, ...]
    layers: tuple[int, ...]
    what: str
    done: Future[Shown] = field(default_factory=Future)  # (layers, ...) in their order

    def passes(self, model: Runnable) -> Iterator[None]:
        assert isinstance(model, Model)
        spec, count = model.spec, len(self.tokens)
        memories = SequenceCache(spec, count), SequenceCache(spec, count)
        shown: dict[int, Shown] = {}
        for number, array in trace(model.decoder, mx.array(self.tokens, mx.int32), memories, self.layers, self.what):
            if array is not None:
                shown[number] = np.array(array)
            if len(shown) == len(set(self.layers)):
                break
            yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(np.stack([shown[number] for number in self.layers]))


def trace_job(
    model: Runnable, tokens: Sequence[int], layers: Sequence[int] | None, what: str, *, plain: bool
) -> TraceJob:
    """Refuses what cannot be seen. `layers` None: all that have something of that."""
    if what not in KINDS:
        raise RequestError(f"what must be one of {', '.join(KINDS)}, not {what!r}.")
    if not isinstance(model, Model) or model.spec.kind != "decoder":
        raise RequestError("Only decoders with a recipe of ours can be traced, not this model.")
    spec = model.spec
    if not plain and any(part.form != APART for parts in forms_of(spec, model.device) for part in parts):
        raise RequestError(
            "The layers of this model are computed in fused forms here, which show nothing of what goes on inside; "
            "plain=True reads the text once more in plain ones, which may differ in the last bits."
        )
    found = wanted(spec, layers, what)
    size = 4 * len(found) * len(tokens) * width(spec, what, len(tokens))
    if size > MOST:
        raise RequestError(
            f"That would give back {size / 2**30:.1f} GiB; ask for fewer layers, or of a shorter text: "
            f"{MOST >> 30} GiB is the most."
        )
    return TraceJob(tuple(tokens), found, what)


def wanted(spec: Decoder, layers: Sequence[int] | None, what: str) -> tuple[int, ...]:
    count = len(spec.layers)
    if layers is None:
        able = tuple(number for number, layer in enumerate(spec.layers) if shows(layer, what) is None)
        if not able:
            raise RequestError(f"No layer of this model has {what} to show: layer 0 {shows(spec.layers[0], what)}.")
        return able
    for number in layers:
        if not isinstance(number, int) or not -count <= number < count:
            raise RequestError(f"layers must be whole numbers from 0 to {count - 1}, not {number!r}.")
        if (why := shows(spec.layers[number], what)) is not None:
            raise RequestError(f"Layer {number} {why}, so it has no {what} to show.")
    if not layers:
        raise RequestError("layers is empty; name at least one layer.")
    return tuple(number % count for number in layers)


def width(spec: Decoder, what: str, tokens: int) -> int:
    """Numbers that are shown of one token in one layer."""
    if what == "hidden":
        return spec.dim
    if what == "logits":
        return spec.vocab
    heads = max((getattr(layer.mixer, "heads", 0) for layer in spec.layers), default=0)
    return heads * tokens if what == "attention" else 1 << 10
