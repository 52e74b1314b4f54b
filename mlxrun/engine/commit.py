"""A token that was read -> what its reader is told, and whether its row ends there."""

from __future__ import annotations

from collections.abc import Iterator

from ..core import Event, Finish
from .constraint import ConstraintError, Guide
from .request import Row
from .sampler import Ahead, Samples

WHY_NO_TOKEN = {
    -1: "The model computed something that is not a number.",
    -2: "No token is left to choose from: what the request allows, bans, biases and constrains leaves none.",
}


def commit(row: Row, ahead: Ahead, now: float) -> Iterator[Event]:
    """The row has one more token, and one more for each draft that was right. An event with `finish` is the last."""
    for index, draft in enumerate((*ahead.drafts, None)):
        yield said(row, ahead.samples, ahead.row + index, now)
        if row.tokens[-1] != draft:
            return
        if row.guide is not None and end_of(row.guide) is not None:
            return


def said(row: Row, samples: Samples, at: int, now: float) -> Event:
    token = samples.token(at)
    if token < 0:
        return Event(finish=Finish.FAILED, reason=WHY_NO_TOKEN[token])
    row.first = now if row.first is None else row.first
    row.tokens.append(token)
    if row.sampling.mirostat_tau:
        row.surprise = samples.surprise(at)
    if token in row.handle.request.stop_ids:
        return Event(finish=Finish.STOP)
    logprob = samples.logprob(at)
    logprobs = () if logprob is None else (logprob,)
    if len(row.tokens) >= row.limit:
        return Event((token,), logprobs, Finish.LENGTH)
    if row.thoughts is not None:
        row.thoughts.read(token)
    if row.guide is not None:
        row.guide.read(token)
    return Event((token,), logprobs)


def end_of(guide: Guide, least: int = 0) -> Event | None:
    """Whether a row ends with what was read: what it is constrained by is complete, or broke. Waits for that.

    `least`: tokens that it should have had.
    """
    try:
        complete = guide.mask().complete
    except ConstraintError as error:
        return Event(finish=Finish.FAILED, reason=str(error), refusal=error.refusal)
    if not complete:
        return None
    short = f"What the answer must be was complete after {guide.position} tokens, before min_tokens ({least})."
    return Event(finish=Finish.STOP, reason=short if guide.position < least else None)
