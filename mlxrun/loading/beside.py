"""A small model that drafts for another: both are planned before either is loaded."""

from __future__ import annotations

from dataclasses import replace

from ..core import USUAL_CONTEXT
from ..families import UnknownFamily
from ..memory.claim import NO_CLAIM, Claim, together
from ..memory.here import this_machine
from ..memory.need import Need
from ..memory.plan import plan
from ..spec import ModelError
from .dry_run import dry_run, with_key_bits
from .open import OpenedModel
from .options import LoadOptions


def plan_beside(
    small: OpenedModel, large: OpenedModel, options: LoadOptions, why_not: str | None
) -> tuple[LoadOptions, LoadOptions]:
    """How the large one is to be loaded so that there is room for the small one, and how that one.

    `why_not`: how their tokens differ; None: they are the same.
    """
    if why_not is not None:
        raise ModelError(f"{small.path.name} cannot draft for {large.path.name}, whose tokens are others: {why_not}.")
    if isinstance(small.found, UnknownFamily):
        raise ModelError(f"{small.path.name} cannot draft: its type has no recipe here, so its memory cannot go back.")
    decoder = small.recipe.decoder
    context = min(options.context or USUAL_CONTEXT, decoder.context)
    seen = with_key_bits(dry_run(small.checkpoint, small.recipe, small.device), decoder, options.kv_bits)
    takes = plan(Need(decoder, seen.weights, seen.width, context, keys=seen.keys), this_machine())
    claim = Claim(mapped=takes.total - takes.activations, activations=takes.activations)  # nothing is in use yet
    rest = replace(options, others=together((options.others, claim)))
    alone = replace(options, anyway=True, experts_on_disk=False, others=NO_CLAIM, least=None)
    return rest, replace(alone, context=context, adapters=(), more_adapters=False)  # these are the large one's
