"""What an engine is given beside its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core import TokenVocabulary
from .draft.begin import Speculate, no_drafts


@dataclass(frozen=True, slots=True)
class Aids:
    vocabulary: Callable[[], TokenVocabulary] | None = None
    """Asked once, when the first answer is to be constrained, on the thread that submits it."""
    speculate: Speculate = no_drafts
    """Makes of the model and its context, on the engine's thread, what proposes drafts."""
    check_answers: bool = False
    """Whether each answer is computed once more, alone, while nobody asks."""
