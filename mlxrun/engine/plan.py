"""What goes through the model in one pass: one token of everybody who speaks, beside them a share of the prompts.

First those who speak and are urgent, then batch rows that speak, as many as a gap has room for, then prompts. Who
spoke and was left out goes again with the fourth pass at the latest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .budget import CHUNK, GAP, LEAST, Load, PassBudget, split_budget
from .draft.base import NO_DRAFTS, Drafts
from .draft.speculation import NOTHING, Riding
from .request import Row
from .sampler import Ahead

LEFT_OUT = 3  # passes in a row at most
MOST_SPEAKING = CHUNK - LEAST  # rows; a plan counts the memory of a pass of CHUNK


@dataclass(slots=True, eq=False)  # not frozen: that would take three times as long, for each row of each pass
class PassPart:
    """What of one row goes through the model: `ids`, or where there are none the token that is ahead; then drafts."""

    row: Row
    ids: Sequence[int] | None
    count: int  # of all of these
    samples: bool  # whether its last token is where the next one is chosen
    end: int  # how long its memory is afterwards, but for drafts
    drafts: Drafts = NO_DRAFTS


@dataclass(frozen=True, slots=True)
class PassPlan:
    members: tuple[Row, ...]
    parts: tuple[PassPart, ...]  # those whose token is ahead first
    ready: tuple[tuple[Row, Ahead], ...]  # what can be read while the parts are computed
    alone: bool  # a row of a batch that broke, by itself
    load: Load | None  # None: there are no parts

    @property
    def waits(self) -> bool:
        """Whether it is waited for as it is run: there is nothing to read before the next, and we would run ever
        further ahead; or what breaks must break there."""
        return bool(self.parts) and (self.alone or not (self.ready or any(part.samples for part in self.parts)))


def plan_for(
    members: Sequence[Row], budget: PassBudget, now: float, alone: bool = False, riding: Riding = NOTHING
) -> PassPlan:
    ready = tuple([(row, row.ahead) for row in members if row.ahead is not None])
    if riding.read_first or any(ahead.drafts for _, ahead in ready):  # where these end is not known before
        return PassPlan(tuple(members), (), ready, alone, None)
    goes_on: list[Row] = []
    reading: list[Row] = []
    for row in members:
        if row.leaving:
            continue
        if not row.speaks:
            reading.append(row)
        elif not row.ends_ahead:
            goes_on.append(row)
    speaking, taken = chosen(goes_on, bool(reading), budget, now)
    drafts = riding.drafts
    parts = [next_token(row, drafts.get(row, NO_DRAFTS) if drafts else NO_DRAFTS) for row in speaking]
    parts.sort(key=lambda part: part.ids is not None)
    early = [row for row in reading if came_before(row, speaking, now)]
    if early:
        parts += prompt_parts(early, budget.prompt_tokens(0, early[0].memory.length), now)
    elif reading and not budget.wants_plain(len(speaking)):
        parts += prompt_parts(reading, budget.prompt_tokens(len(speaking), reading[0].memory.length, taken), now)
    return PassPlan(tuple(members), tuple(parts), ready, alone, load_of(parts, len(speaking), bool(early)))


def came_before(row: Row, speaking: Sequence[Row], now: float) -> bool:
    """Whether nobody who looks on was told a word before this row's request came: then it is as much his turn."""
    return row.first is None and all(
        other.first is None or row.handle.submitted <= other.first for other in speaking if other.urgent(now)
    )


def chosen(speaking: Sequence[Row], reading: bool, budget: PassBudget, now: float) -> tuple[list[Row], float]:
    """Those who say another token in this pass, and how much longer batch rows make it."""
    urgent = [row for row in speaking if row.urgent(now)]
    batch = [] if len(urgent) == len(speaking) else [row for row in speaking if not row.urgent(now)]
    plain = budget.plain(len(urgent)) if urgent and batch else None
    taken = 0.0
    if plain is not None:
        room = (GAP - 1) * plain * (0.5 if reading else 1.0)
        batch.sort(key=lambda row: -row.still)
        due = sum(row.still >= LEFT_OUT for row in batch)
        costs = [(budget.plain(len(urgent) + count) or 0.0) - plain for count in range(len(batch) + 1)]
        count = max(due, *(count for count, cost in enumerate(costs) if cost <= room))
        batch, taken = batch[:count], max(0.0, costs[count])
    everybody = [*urgent, *batch]
    if len(everybody) > MOST_SPEAKING:
        everybody = sorted(everybody, key=lambda row: -row.still)[:MOST_SPEAKING]
    return everybody, taken


def next_token(row: Row, drafts: Drafts) -> PassPart:
    end = row.memory.length + 1
    count = 1 + len(drafts.tokens)
    return PassPart(row, None if row.ahead is not None else row.tokens[-1:], count, True, end, drafts)


def prompt_parts(reading: Sequence[Row], budget: int, now: float) -> list[PassPart]:
    parts = []
    for urgent in (True, False):
        rows = [row for row in reading if row.urgent(now) is urgent]
        for row, count in zip(rows, split_budget([row.wanted for row in rows], budget), strict=True):
            if count:
                start, end = row.memory.length, row.whole_pictures(row.memory.length + count)
                parts.append(PassPart(row, row.tokens[start:end], end - start, end == len(row.tokens), end))
                budget -= min(budget, end - start)
    return parts


def load_of(parts: Sequence[PassPart], speaking: int, hurried: bool) -> Load | None:
    prompts = parts[speaking:]
    tokens = sum([part.count for part in prompts])
    if not tokens:
        return Load(speaking, drafts=sum([part.count for part in parts]) - speaking) if speaking else None
    depth = sum(part.count * (part.end - part.count // 2) for part in prompts) // tokens
    return Load(speaking, tokens, depth, hurried=hurried and speaking > 0)
