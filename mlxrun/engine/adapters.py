"""Which of a model's adapters a request names."""

from __future__ import annotations

from ..contracts import SequenceMemory
from ..core import RequestError
from ..loading.model import Runnable
from ..ops.adapters import Adapter


def new_sequence(model: Runnable, context: int, adapter: str | None) -> SequenceMemory:
    memory = model.new_sequence(context)
    memory.adapter = adapter_of(model, adapter)
    return memory


def adapter_of(model: Runnable, name: str | None) -> Adapter | None:
    if name is None:
        return None
    known = model.holdings.adapters
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "it has none"
        raise RequestError(f"This model has no adapter {name!r}; {there}.")
    return known[name]
