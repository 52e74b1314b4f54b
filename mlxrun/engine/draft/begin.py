"""A model that is loaded, and how its drafts shall be made -> its `Speculation`. On the engine's thread."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from ...loading.model import Model, Runnable
from ...spec import ModelError
from .head import PredictionHead
from .model import DraftModel
from .speculation import Speculation
from .suffix import SuffixProposer

Speculate = Callable[[Runnable, int], Speculation]  # of a model and its context
KEPT_BYTES = 256 * 2**20  # that a draft model keeps of ended requests


def no_drafts(model: Runnable, context: int) -> Speculation:
    return Speculation()


def text_drafts(model: Runnable, context: int) -> Speculation:
    return Speculation([SuffixProposer()])


def model_drafts(load: Callable[[], Runnable]) -> Speculate:
    """Of the text, and where that has none of the model that `load` loads."""

    def begin(model: Runnable, context: int) -> Speculation:
        if not can_go_back(model):
            raise ModelError("Nothing can be drafted for this model: its memory cannot be taken back by a few tokens.")
        small = load()
        if not can_go_back(small):
            raise ModelError("This model cannot draft: its memory cannot be taken back by a few tokens.")
        return Speculation([SuffixProposer()], DraftModel(small, context, KEPT_BYTES))

    return begin


def head_drafts(load: Callable[[], Model]) -> Speculate:
    """Of the text, and where that has none of the checkpoint's own prediction head, which `load` loads."""

    def begin(model: Runnable, context: int) -> Speculation:
        if not can_go_back(model):
            raise ModelError("Nothing can be drafted for this model: its memory cannot be taken back by a few tokens.")
        head = load()
        drafter = PredictionHead(head, head, context)
        return Speculation([SuffixProposer()], drafter, see=drafter.see)

    return begin


def can_go_back(model: Runnable) -> bool:
    """Asked of a memory that holds something: an empty one always can."""
    memory = model.new_sequence(8)
    mx.eval(model(mx.array([0, 0, 0], mx.int32), [(memory, 3)]), memory.arrays())
    return memory.reusable(2) == 2
