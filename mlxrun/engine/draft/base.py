"""What proposes drafts, and what it is told: the contract of everything in this folder.

A draft is taken where it equals the token that is drawn at its place anyway, so a bad proposer costs time and never
changes an answer. Knows neither the model that checks nor the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import mlx.core as mx

from ...memory.claim import Claim
from ..sampler import Draw
from .depth import Account


@dataclass(frozen=True, slots=True)
class Drafts:
    """What may come next of one request, and of what kind each token is: of one kind, one chance."""

    tokens: tuple[int, ...] = ()
    kinds: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def cut(self, count: int) -> Drafts:
        return self if count >= len(self.tokens) else Drafts(self.tokens[:count], self.kinds[:count])


NO_DRAFTS = Drafts()


@dataclass(slots=True)
class Drafting:
    """What is kept of one request while it speaks."""

    proposers: dict[str, Any] = field(default_factory=dict)  # what each keeps of it, by its name
    account: Account = field(default_factory=Account)
    proposed: Drafts = NO_DRAFTS  # what was thought to come after the first `at` tokens,
    proposer: Proposer | None = None  # by whom,
    at: int = 0
    riding: int = 0  # and how many of these went through the model
    hidden: list[tuple[int, mx.array]] = field(default_factory=list)  # the model's rows from a position on, for a head
    fixed: bool | None = None  # its memory cannot forget its last tokens; None: it was not asked yet


class DraftedRow(Protocol):
    """One request, as a proposer sees it: everything that was said is read."""

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt, then what was said. It only grows."""

    @property
    def drafting(self) -> Drafting:
        """It ends with the request."""

    @property
    def draw(self) -> Draw:
        """Of the token that comes next."""

    def draws(self, drafts: Drafts) -> list[Draw]:
        """The same, and of those after each draft if it is right."""


class SeenRows(NamedTuple):
    """So many rows of a pass are one request's, the first of them the token at that position."""

    row: DraftedRow
    position: int
    length: int


See = Callable[[Sequence[SeenRows], mx.array], list[mx.array]]


class Proposer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def most(self) -> int:
        """Drafts of one request at a time."""

    @property
    def given_up(self) -> str | None:
        """Why nothing more comes of it."""

    def prior(self, kind: int) -> float:
        """The chance of a draft of that kind, given those before it, while none was seen."""

    def kinds(self, count: int) -> tuple[int, ...]:
        """Of what kinds the next drafts will be, before they are made; of a drafter only."""

    def seconds(self, rows: int) -> float:
        """That one draft of each of so many rows takes; nothing where that does not count."""

    def propose(self, rows: Sequence[DraftedRow], most: Sequence[int]) -> list[Drafts]:
        """Of each row at most so many."""

    @property
    def claim(self) -> Claim:
        """What it holds of this machine beside that."""

    def forget(self) -> None:
        """What ended requests left."""

    def bytes(self, row: DraftedRow) -> int:
        """Held on the device for this row."""

    def ended(self, row: DraftedRow) -> None:
        """The request is over; what was learned of it may be kept for others."""
