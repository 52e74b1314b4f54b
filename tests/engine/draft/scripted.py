"""Speculation without times: in every pass it rides whatever a test says, so that each kind of pass comes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mlxrun.core import Event, Request
from mlxrun.engine.aids import Aids
from mlxrun.engine.draft.base import Drafts
from mlxrun.engine.draft.speculation import NOTHING, Riding, Speculation
from mlxrun.engine.engine import Engine
from mlxrun.engine.request import Row
from mlxrun.loading.model import Runnable

Says = Callable[[Row], Sequence[int]]


class Scripted(Speculation):
    """`says` which drafts ride of a row; where it has none for anybody, the pass is a plain one."""

    def __init__(self, says: Says) -> None:
        super().__init__()
        self.says, self.rode = says, 0

    def plan(self, rows: Sequence[Row], plain: float | None) -> Riding:
        if not all(row.speaks for row in rows):
            return NOTHING
        if any(row.ahead is not None for row in rows):
            return Riding(read_first=True)
        drafts = {}
        for row in rows:
            said = tuple(self.says(row))[: row.limit - len(row.tokens) - 1]
            if said and row.can_go_back and (allowed := row.allowed(Drafts(said, (0,) * len(said)))):
                drafts[row] = allowed
        self.rode += bool(drafts)
        return Riding(drafts)


@contextmanager
def engine_of(load: Callable[[], Runnable], says: Says | None) -> Iterator[tuple[Engine, Scripted | None]]:
    scripted = None if says is None else Scripted(says)
    engine = Engine.start(load, aids=Aids(speculate=lambda model, context: scripted or Speculation()))
    try:
        yield engine, scripted
    finally:
        engine.close()


def said(engine: Engine, requests: Sequence[Request]) -> list[list[Event]]:
    handles = [engine.submit(request) for request in requests]
    return [list(handle) for handle in handles]


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in event.tokens]
