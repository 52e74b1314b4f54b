"""The first machine: it decides who has which layers, loads its own, and closes the ring. Then it is an engine's model
like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ..core import RequestError
from ..loading.dry_run import outlined
from ..loading.open import OpenedModel
from ..loading.options import LoadOptions
from ..memory.sequence import sequence_bytes
from ..spec import Decoder, ModelError
from .cut import cut_layers, layer_bytes, may_cut, told, why_not
from .first import MachineGroup
from .messages import Begin, Hello, Plan, ShareLoaded
from .pipeline import Orders, PipelinedModel
from .ring import Ring
from .share import DTYPES, load_share, loaded

USUAL = 8192  # tokens for which a cut reckons where nobody asked for a context


def check(opened: OpenedModel, options: LoadOptions) -> None:
    """ModelError or RequestError where several machines cannot run it so."""
    if (why := why_not(opened.recipe)) is not None:
        raise ModelError(f"{opened.path.name}: {why}; serve it on one machine.")
    asked = {
        "--adapter": bool(options.adapters),
        "--experts-on-disk": options.experts_on_disk,
        "--draft": options.draft_model is not None or options.draft_heads,
    }
    if (flag := next((flag for flag, there in asked.items() if there), None)) is not None:
        raise RequestError(f"{flag} is not there for a model that several machines run: leave it or --machines out.")


def memories_of(hellos: Sequence[Hello]) -> list[int]:
    """Ranks of one machine share what it has."""
    ranks = Counter(hello.node for hello in hellos)
    return [hello.usable // ranks[hello.node] for hello in hellos]


def shares(opened: OpenedModel, context: int | None, memories: Sequence[int]) -> list[range]:
    """Of each machine, the first included, its layers."""
    decoder = opened.recipe.decoder
    sizes, rest = layer_bytes(outlined(opened.checkpoint, opened.recipe, opened.device), len(decoder.layers))
    tokens = context or min(decoder.context, USUAL)
    keys = [sequence_bytes(replace(decoder, layers=(layer,)), tokens, 4, 512) for layer in decoder.layers]
    full = [size + kept for size, kept in zip(sizes, keys, strict=True)]
    return cut_layers(full, rest, [max(1, memory) for memory in memories], lambda at: may_cut(decoder.layers, at))


def load_first(group: MachineGroup, own: Hello, opened: OpenedModel, options: LoadOptions) -> PipelinedModel:
    """On the engine's thread. `own`: what this machine is."""
    decoder = opened.recipe.decoder
    cuts = shares(opened, options.context, memories_of([own, *(follower.hello for follower in group.followers)]))
    for follower, layers in zip(group.followers, cuts[1:], strict=True):
        group.tell(follower, Plan(layers.start, layers.stop))
    memory = group.start.memory[0] or options.memory
    model = load_share(opened, cuts[0], replace(options, memory=memory))
    said = [group.hear(follower, ShareLoaded) for follower in group.followers]
    context = min(model.context, *(each.context for each in said))
    if options.context is not None and context < min(options.context, decoder.context):
        raise ModelError(f"The machines have memory for a context of {context} tokens together, not {options.context}.")
    mine = loaded(model, context)
    if strange := [each.dtype for each in said if each.dtype != mine.dtype]:
        raise ModelError(f"One machine makes rows of {strange[0]} and this one of {mine.dtype}; they must agree.")
    for follower in group.followers:
        group.tell(follower, Begin(context, mine.dtype))
    model.decoder.further = Ring(0, group.start.ring).round
    assert mine.dtype in DTYPES
    found = PipelinedModel(model, decoder, Orders(group.step), context, notes_of(group, decoder, cuts))
    found.holdings = replace(model.holdings, lost=group.lost)
    found.fuller = max(1.0, *(fuller(each, mine) for each in said))
    return found


def fuller(other: ShareLoaded, mine: ShareLoaded) -> float:
    """How many times as full as this machine the other becomes by the same sequence."""
    if not other.room or not mine.room or not mine.held:
        return 1.0
    return (other.held / other.room) / (mine.held / mine.room)


def notes_of(group: MachineGroup, decoder: Decoder, cuts: Sequence[range]) -> list[str]:
    where = [f"{told(layers)} on {name}" for layers, name in zip(cuts, group.start.names, strict=True)]
    return [
        f"{len(decoder.layers)} layers run on {len(cuts)} machines: {', '.join(where)}.",
        "On several machines nothing is drafted, and what a request has read is there for others once it has ended.",
    ]
