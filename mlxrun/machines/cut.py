"""Which layers each machine has, and what of a recipe is left for it then: data, no bytes.

The first machine embeds, has the first layers, the last norm and the head; the others have layers only. Shares go by
each machine's memory. Knows no machine but by its bytes, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

from ..families import Recipe
from ..families.rules import Drop, Rename, Rule
from ..ops.quantized import Weight
from ..spec import Attention, LatentAttention, Layer, ModelError


def why_not(recipe: Recipe) -> str | None:
    """Why several machines cannot run it; None: they can."""
    decoder = recipe.decoder
    parts = {
        "an encoder": decoder.kind != "decoder",
        "a model that sees pictures": recipe.towers is not None,
        "a model that hears": recipe.listener is not None,
        "a model whose every layer is fed by the tokens (per-layer input)": decoder.per_layer is not None,
        "a model with several streams of rows (AltUp)": decoder.altup is not None,
        "a head that guesses further tokens": decoder.joined is not None,
    }
    found = next((told for told, there in parts.items() if there), None)
    return None if found is None else f"{found} is not run on several machines here"


def may_cut(layers: Sequence[Layer], at: int) -> bool:
    """Whether the layers from there on need nothing of those before but their rows."""
    lenders = {slot: number for number, layer in enumerate(layers) for slot in lent(layer)}
    return all(lenders[slot] >= at for layer in layers[at:] for slot in borrowed(layer))


def lent(layer: Layer) -> list[tuple[str, int]]:
    match layer.mixer:
        case Attention(lends=int(slot)):
            return [("keys", slot)]
        case LatentAttention(indexer=indexer) if indexer is not None and indexer.lends is not None:
            return [("choice", indexer.lends)]
    return []


def borrowed(layer: Layer) -> list[tuple[str, int]]:
    match layer.mixer:
        case Attention(borrows=int(slot)):
            return [("keys", slot)]
        case LatentAttention(borrows=int(slot)):
            return [("choice", slot)]
    return []


def layer_bytes(weights: Mapping[str, Weight], layers: int) -> tuple[list[int], int]:
    """Of each layer, and of all else, which the first machine has."""
    sizes, rest = [0] * layers, 0
    for name, weight in weights.items():
        words = name.split(".")
        if words[0] == "layers":
            sizes[int(words[1])] += weight.nbytes
        else:
            rest += weight.nbytes
    return sizes, rest


def cut_layers(
    sizes: Sequence[int], first: int, memories: Sequence[int], may: Callable[[int], bool] = lambda at: True
) -> list[range]:
    """Of each machine its layers, so that the fullest is as little full as can be. `first`: bytes that the first
    machine has beside layers; `may`: whether a share may begin with that layer."""
    layers, machines = len(sizes), len(memories)
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)

    @cache
    def best(machine: int, start: int) -> tuple[float, int] | None:
        """How full the fullest is of that machine and those behind it, and where its own layers end."""
        own = first if machine == 0 else 0
        if machine == machines - 1:
            return (own + sums[-1] - sums[start]) / memories[machine], layers
        found: tuple[float, int] | None = None
        for end in range(start + 1, layers - (machines - machine - 2)):
            behind = best(machine + 1, end) if may(end) else None
            if behind is not None:
                full = max((own + sums[end] - sums[start]) / memories[machine], behind[0])
                found = min(found or (full, end), (full, end))
        return found

    ends, start = [0], 0
    for machine in range(machines):
        found = best(machine, start) if start < layers else None
        if found is None:
            raise ModelError(f"{layers} layers cannot be cut into shares for {machines} machines: take fewer machines.")
        start = found[1]
        ends.append(start)
    return [range(begin, end) for begin, end in pairwise(ends)]


def share_of(recipe: Recipe, layers: range) -> Recipe:
    """What of it a machine with these layers loads."""
    decoder = recipe.decoder
    numbers = "|".join(map(str, layers))
    own = replace(decoder, layers=decoder.layers[layers.start : layers.stop])
    if layers.start == 0:
        rules: tuple[Rule, ...] = (Drop(rf"^layers\.(?!(?:{numbers})\.)"),)
        return replace(recipe, decoder=own, rules=(*recipe.rules, *rules), further=None)
    moved = [Rename(rf"^layers\.{number}\.", f"layers.{number - layers.start}.") for number in layers]
    rules = (Drop(rf"^(?!layers\.(?:{numbers})\.)"), *moved)
    plain = replace(own, middle=True, norm=None, embed_dim=None, embed_norm=None, positions=None, token_types=0)
    return replace(recipe, decoder=plain, rules=(*recipe.rules, *rules), further=None)


def told(layers: range) -> str:
    return f"layer {layers.start}" if len(layers) == 1 else f"layers {layers.start} to {layers.stop - 1}"
