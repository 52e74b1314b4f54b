"""What a model that is loaded holds of this machine, for who plans another one beside it in the same process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .machine import Machine


@dataclass(frozen=True, slots=True)
class Claim:
    """In bytes."""

    own: int = 0  # weights and sequences in memory of this process's own
    mapped: int = 0  # weights that are pages of files
    activations: int = 0  # of a pass, which may begin at any time

    @property
    def total(self) -> int:
        return self.own + self.mapped + self.activations


NO_CLAIM = Claim()


def together(claims: Iterable[Claim]) -> Claim:
    """Two models may compute at the same time, so their passes add up."""
    known = list(claims)
    return Claim(
        sum(claim.own for claim in known),
        sum(claim.mapped for claim in known),
        sum(claim.activations for claim in known),
    )


def left_beside(machine: Machine, others: Claim, granted: int | None = None) -> Machine:
    """What of the machine a further model can have. `granted`: bytes that a person grants all of them together.

    Without a GPU the system counts memory of our own as used already, but not mapped pages, which it could drop; of
    what a GPU recommends it counts nothing.
    """
    unseen = others.total if machine.gpu else others.mapped + others.activations
    usable = machine.usable - unseen
    if granted is not None:
        usable = min(usable, granted - others.total)
    return replace(machine, usable=max(0, usable))
