"""A token that was read -> what its reader is told, and whether its row ends there."""

from __future__ import annotations

from ..core import Event, Finish
from .request import Row
from .sampler import Ahead

WHY_NO_TOKEN = {
    -1: "The model computed something that is not a number.",
    -2: "No token is left to choose from: what the request allows, bans and biases leaves none.",
}


def commit(row: Row, ahead: Ahead, now: float) -> Event:
    """The row has one more token; an event with `finish` is its last."""
    token = ahead.samples.token(ahead.row)
    if token < 0:
        return Event(finish=Finish.FAILED, reason=WHY_NO_TOKEN[token])
    row.first = now if row.first is None else row.first
    row.tokens.append(token)
    if row.sampling.mirostat_tau:
        row.surprise = ahead.samples.surprise(ahead.row)
    if token in row.handle.request.stop_ids:
        return Event(finish=Finish.STOP)
    logprob = ahead.samples.logprob(ahead.row)
    logprobs = () if logprob is None else (logprob,)
    return Event((token,), logprobs, Finish.LENGTH if len(row.tokens) >= row.limit else None)
