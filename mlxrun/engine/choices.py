"""Several answers to one prompt: a row each, the first of which reads the prompt for all.

Where more are made than are told (`best_of`), nothing is told before all have ended: then those whose tokens were
likeliest in the mean, by the model's own log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core import Event, Finish, TokenLogprob
from .handle import Handle
from .request import Row

ENDS_WELL = (Finish.STOP, Finish.LENGTH)


class Ranking:
    def __init__(self, handles: Sequence[Handle], rows: int, told: bool) -> None:
        """`told`: whether log-probabilities were asked for."""
        self._handles, self._told = handles, told
        self._events: list[list[Event]] = [[] for _ in range(rows)]
        self._open = rows

    def take(self, choice: int, event: Event) -> None:
        self._events[choice].append(event)
        if event.finish is None:
            return
        self._open -= 1
        if self._open == 0:
            for place, events in enumerate(sorted(self._events, key=worth, reverse=True)[: len(self._handles)]):
                self._tell(place, events)

    def _tell(self, place: int, events: Sequence[Event]) -> None:
        tokens = tuple(token for event in events for token in event.tokens)
        logprobs = logprobs_of(events) if self._told else ()
        self._handles[place].post(replace(events[-1], tokens=tokens, logprobs=logprobs, choice=place))


def logprobs_of(events: Sequence[Event]) -> tuple[TokenLogprob, ...]:
    return tuple(one for event in events for one in event.logprobs)


def worth(events: Sequence[Event]) -> tuple[bool, float]:
    """The larger the better: it ended as an answer does, and its tokens were likely."""
    logprobs = [one.logprob for one in logprobs_of(events)]
    return events[-1].finish in ENDS_WELL, sum(logprobs) / len(logprobs) if logprobs else float("-inf")


def rows_of(handles: Sequence[Handle], context: int) -> list[Row]:
    """`handles`: one for each answer that is told."""
    request = handles[0].request
    count = max(request.best_of or 1, request.n)
    rows = [Row.of(handles[min(choice, len(handles) - 1)], context, choice) for choice in range(count)]
    if count > len(handles):
        ranking = Ranking(handles, count, request.sampling.logprobs is not None)
        for row in rows:
            row.ranking, row.handle = ranking, handles[0]
            row.sampling = replace(row.sampling, logprobs=row.sampling.logprobs or 0)
    return rows
