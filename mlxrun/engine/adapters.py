"""Which of a model's adapters a request names, and how one comes to it while others are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts import SequenceMemory
from ..core import RequestError
from ..loading.model import Runnable
from ..ops.adapters import Adapter
from ..spec import ModelError

if TYPE_CHECKING:
    from .engine import Engine


def new_sequence(model: Runnable, context: int, adapter: str | None) -> SequenceMemory:
    memory = model.new_sequence(context)
    memory.adapter = adapter_of(model, adapter)
    return memory


def adapter_of(model: Runnable, name: str | None) -> Adapter | None:
    if name is None:
        return None
    known = model.holdings.adapters
    try:
        return known[name]
    except KeyError:
        there = f"there are {', '.join(known)}" if known else "it has none"
        raise RequestError(f"This model has no adapter {name!r}; {there}.") from None


def lend_adapter(engine: Engine, name: str, path: Path) -> tuple[Future[None], Callable[[], None]]:
    """Comes when it is there, loaded between two passes; and what gives it back, once it has come."""
    adapters = engine.model.holdings.adapters
    job = AdapterJob(name, path)
    if adapters.lend(name):
        job.done.set_result(None)
    else:
        engine.embed(job)
    return job.done, partial(adapters.take_back, name)


@dataclass(frozen=True)
class AdapterJob:
    """Lent when it is done, and loaded for that where it is not there: between two passes, like what is read."""

    name: str
    path: Path
    done: Future[None] = field(default_factory=Future)  # cancel it to give it up

    def passes(self, model: Runnable) -> Iterator[None]:
        known = model.holdings.adapters
        try:
            known.load(self.name, self.path)
        except OSError as error:
            raise ModelError(f"{self.path.name} cannot be read: {error.strerror or error}.") from error
        yield
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(None)
        else:
            known.take_back(self.name)
