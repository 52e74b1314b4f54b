"""How a person wants a model to be loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core import KeyBits
from ..memory.claim import NO_CLAIM, Claim
from ..memory.wiring import Policy
from ..ops.device import Device

Progress = Callable[[int, int], None]  # bytes done, bytes in all; what it raises ends the load


def ignore_progress(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be loaded."""

    context: int | None = None  # tokens that a person asked for; None: as many as fit
    anyway: bool = False  # although it does not fit
    memory: int | None = None  # bytes that a person grants, to all models together
    others: Claim = NO_CLAIM  # what other models of this process hold
    least: int | None = None  # tokens; rather than with a shorter context that nobody asked for it is not loaded
    mapped: bool = True  # weights that are used as stored are views into their file
    ready: Path | None = None  # where packed weights are kept; None: nowhere
    prefixes: Path | None = None  # where what requests have read is kept for the next start; None: nowhere
    prefix_bytes: int = 0  # so much of it
    progress: Progress = ignore_progress  # what it raises ends the load
    experts_on_disk: bool = False  # those that do not fit may stay there
    device: Device | None = None  # by which forms it shall run; None: what is best here
    unchecked: bool = False  # a model type without a recipe runs on a class of mlx-lm that nobody has checked
    wire: Policy = "weights"  # what of a GPU's memory is kept from being paged out
    kv_bits: KeyBits = 16  # of keys and values that lie in pages
    adapters: tuple[tuple[str, Path], ...] = ()  # by the name that requests say
    more_adapters: bool = False  # others may come while it runs
    most_adapters: int | None = None  # at once; None: as many as there is memory for
    drafts: bool = True  # whether tokens that may come next are tried ahead: out of the text itself,
    draft_model: Path | None = None  # and by this smaller model with the same tokens,
    draft_heads: bool = False  # or by the checkpoint's own prediction head

    @property
    def adaptable(self) -> bool:
        return bool(self.adapters) or self.more_adapters
