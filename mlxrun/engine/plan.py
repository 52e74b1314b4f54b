"""What goes through the model in one pass: one token of everybody who speaks, beside them a share of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .budget import CHUNK, SHARED_CHUNK, split_budget
from .request import Row
from .sampler import Ahead


@dataclass(frozen=True, slots=True)
class PassPart:
    """What of one row goes through the model: `ids`, or where there are none the token that is ahead."""

    row: Row
    ids: Sequence[int] | None
    samples: bool  # whether its last token is where the next one is chosen
    end: int  # how long its memory is afterwards

    @property
    def count(self) -> int:
        return 1 if self.ids is None else len(self.ids)


@dataclass(frozen=True, slots=True)
class PassPlan:
    members: tuple[Row, ...]
    parts: tuple[PassPart, ...]  # those that decode first
    ready: tuple[tuple[Row, Ahead], ...]  # what can be read while the parts are computed
    alone: bool  # a row of a batch that broke, by itself


def plan_for(members: Sequence[Row], alone: bool = False) -> PassPlan:
    speaking = [row for row in members if row.ahead is not None]
    reading = [row for row in members if row.ahead is None]
    parts = [PassPart(row, None, True, row.memory.length + 1) for row in speaking if len(row.tokens) + 1 < row.limit]
    left = [row.unseen for row in reading]
    for row, count in zip(reading, split_budget(left, SHARED_CHUNK if parts else CHUNK), strict=True):
        if count:
            start, end = row.memory.length, row.memory.length + count
            parts.append(PassPart(row, row.tokens[start:end], end == len(row.tokens), end))
    ready = tuple((row, row.ahead) for row in speaking if row.ahead is not None)
    return PassPlan(tuple(members), tuple(parts), ready, alone)
