"""Before a byte of a weight is read: whether the model fits here, and with how long a context.

Nobody asked for a context: the longest that fits, up to what its authors promise. Somebody did: that one or a refusal.
A refusal is one sentence that says what is missing and what to change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..core import allowed_context
from ..families import Recipe
from ..memory.claim import NO_CLAIM, Claim, left_beside
from ..memory.headroom import Budget
from ..memory.here import this_machine
from ..memory.machine import Machine
from ..memory.need import Need
from ..memory.plan import Advice, MemoryPlan, advise, plan, streaming
from ..memory.streaming import EDGES, RATE, SPARE, Streaming
from ..memory.weights import EXPERTS
from ..spec import ModelError
from .dry_run import DryRun

SHORTEST = 512  # tokens; a model that cannot have so many is of no use
GIB = 2**30
UNASKED = 8192  # tokens, the most that are promised unasked where experts could have the memory
ANYWAY = "or --anyway, to try all the same"


class DoesNotFit(ModelError):
    """There is not enough memory."""


@dataclass(frozen=True, slots=True)
class Overcommit:
    """What a person allows where a model does not fit."""

    anyway: bool = False  # to load it all the same
    on_disk: bool = False  # to leave experts on disk


@dataclass(frozen=True, slots=True)
class LoadPlan:
    context: int  # that may be promised
    note: str | None
    budget: Budget
    made: MemoryPlan
    hot: int | None = None  # bytes of experts that may be in memory, where not all may


@dataclass(frozen=True, slots=True)
class ModelShare:
    """What of this machine a model may have."""

    granted: int | None = None  # bytes that a person gives all models together; None: what there is
    others: Claim = NO_CLAIM  # what other models of this process hold
    least: int | None = None  # tokens; a context that is shorter, and not asked for, is no use yet: others may still go


AS_PLANNED, ALL_OF_IT = Overcommit(), ModelShare()


def plan_load(
    recipe: Recipe, seen: DryRun, context: int | None = None, how: Overcommit = AS_PLANNED, room: ModelShare = ALL_OF_IT
) -> LoadPlan:
    machine = left_beside(this_machine(), room.others, room.granted)
    if how.on_disk:
        found = plan_on_disk(machine, recipe, seen, context)
        if found is not None:
            return found
    found = plan_on(machine, recipe, seen, context, anyway=how.anyway)
    if room.least is not None and found.context < min(room.least, recipe.decoder.context, context or room.least):
        raise DoesNotFit(f"Memory is enough for a context of {found.context} tokens only.")
    return found


def plan_on_disk(machine: Machine, recipe: Recipe, seen: DryRun, context: int | None) -> LoadPlan | None:
    """None: it fits as a whole."""
    if not seen.order:
        raise DoesNotFit("Experts can stay on disk only where a processor runs the model by our native kernels.")
    if not seen.weights.kinds.get(EXPERTS):
        raise DoesNotFit("This model has no experts that could stay on disk.")
    promised = recipe.decoder.context
    wanted = allowed_context(context, promised) or min(promised, UNASKED)
    need = Need(recipe.decoder, seen.weights, seen.width, wanted, keys=seen.keys, towers=recipe.towers)
    if plan(need, machine).fits:
        return None
    found = streaming(need, machine)
    if found is None:
        raise DoesNotFit(describe_shortage(need, machine))
    made = plan(found.need, machine)
    return LoadPlan(wanted, describe_offload(found), budget_of(made), made, found.need.hot)


def describe_offload(found: Streaming) -> str:
    rate = f"{found.seconds:.2f} s at {RATE / 1e9:.0f} GB/s, and that rate is assumed"
    return (
        f"{found.missing:.0%} of the experts ({found.need.on_disk / GIB:.1f} GiB) stay on disk. "
        f"Were they chosen evenly, a token would read {found.read / 2**20:.0f} MiB of them, {rate}."
    )


def describe_shortage(need: Need, machine: Machine) -> str:
    least = plan(replace(need, hot=need.weights.experts_layer + EDGES + SPARE), machine)
    return (
        f"This model does not fit even with its experts on disk: with a context of {need.context} tokens what must be "
        f"in memory takes {least.total / GIB:.1f} GiB, and {machine.usable / GIB:.1f} GiB can be used here: ask for a "
        "shorter context or take a smaller model."
    )


def plan_on(machine: Machine, recipe: Recipe, seen: DryRun, context: int | None, *, anyway: bool) -> LoadPlan:
    promised = recipe.decoder.context
    wanted = allowed_context(context, promised) or promised
    need = Need(recipe.decoder, seen.weights, seen.width, wanted, keys=seen.keys, towers=recipe.towers)
    made = plan(need, machine)
    if made.fits or anyway:
        return LoadPlan(need.context, None if made.fits else warning(made, streams(made, seen)), budget_of(made), made)
    if context is not None:
        raise DoesNotFit(refusal(made, advise(need, machine), streams(made, seen)))
    shortest = replace(need, context=min(SHORTEST, promised))
    if not plan(shortest, machine).fits:
        least = plan(shortest, machine)
        raise DoesNotFit(refusal(least, advise(shortest, machine), streams(least, seen)))
    longest = advise(need, machine).context
    shorter = plan(replace(need, context=longest), machine)
    note = f"Memory is enough for a context of {longest} tokens; {promised} would take {made.total / GIB:.1f} GiB."
    return LoadPlan(longest, note, budget_of(shorter), shorter)


def budget_of(made: MemoryPlan) -> Budget:
    return Budget(made.machine.usable - made.runtime, weights=made.weights, activations=made.activations)


def refusal(made: MemoryPlan, advice: Advice, on_disk: bool) -> str:
    """`on_disk`: whether a share of its experts could stay there."""
    machine = made.machine
    if made.array_too_large:
        return (
            f"One array of this model has {made.need.weights.largest / GIB:.1f} GiB, more than the GPU takes at once "
            f"({(machine.max_buffer or 0) / GIB:.1f} GiB): choose a quantization with fewer bits, {ANYWAY}."
        )
    told = (
        f"This model does not fit: with a context of {made.need.context} tokens it takes {made.total / GIB:.1f} GiB "
        f"({made.weights / GIB:.1f} of them weights), and {machine.usable / GIB:.1f} GiB can be used here"
    )
    return f"{told}: {' or '.join(ways_out(made, advice, on_disk))}, {ANYWAY}."


def ways_out(made: MemoryPlan, advice: Advice, on_disk: bool) -> list[str]:
    found = []
    if SHORTEST <= advice.context < made.need.context:
        found.append(f"ask for a shorter context (--context {advice.context})")
    if advice.bits is not None and advice.bits_weights is not None:
        shorter = f" at a context of {advice.bits_context}" if advice.bits_context != made.need.context else ""
        found.append(f"take it with {advice.bits} bits a weight ({advice.bits_weights / GIB:.1f} GiB{shorter})")
    if advice.wired_limit is not None:
        found.append(f"raise the GPU's limit (sudo sysctl iogpu.wired_limit_mb={advice.wired_limit})")
    if made.machine.held and made.free + made.machine.held >= 0:
        found.append(f"end other programs ({made.machine.held / GIB:.1f} GiB that a model could have are in use)")
    found = found or ["take a smaller model"]
    if on_disk:
        found.append("let experts stay on disk, slowly (--experts-on-disk)")
    return found


def streams(made: MemoryPlan, seen: DryRun) -> bool:
    """Whether it would fit with a share of its experts on disk."""
    return bool(seen.order) and not made.fits and streaming(made.need, made.machine) is not None


def warning(made: MemoryPlan, on_disk: bool) -> str:
    if on_disk:
        missing = (made.total - made.machine.usable) / GIB
        return f"{missing:.1f} GiB of experts do not fit and are read from disk whenever they are chosen: this is slow."
    return (
        f"This takes {made.total / GIB:.1f} GiB and {made.machine.usable / GIB:.1f} GiB can be used; "
        "the system may become slow, or end the program."
    )
