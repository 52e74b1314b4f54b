"""What a run will take of this machine's memory, told before a weight is read; what does not fit is refused.

Activations are an upper estimate of what a pass keeps for its way back, by the shapes of a layer's matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..loading.dry_run import build_blocks, dry_run, outlined, packed_bytes
from ..loading.open import OpenedModel
from ..memory.disk import in_words
from ..memory.machine import available_bytes
from ..nn.linear import AdaptedLinear
from ..spec import Attention, ModelError
from .config import TrainConfig
from .core import BACK_BITS, BACK_GROUP, training_device
from .objectives import LOGITS
from .pairs import Pairs, find_pairs
from .train import Prepared

FLOAT = 4
KEPT = 3  # arrays of a matrix's width that a pass keeps for each: what goes in, what comes out, what is made of that
SHARE = 0.9  # of what is free


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """All in bytes."""

    frozen: int  # the model as it is multiplied by
    turned: int  # its matrices once more, for what flows back
    trained: int  # with gradients and the optimizer's two moments
    activations: int  # of the largest batch
    loss: int  # of the vocabulary
    free: int
    matrices: int  # that are changed
    changeable: int  # of so many that an adapter may change
    numbers: int  # that are trained

    @property
    def total(self) -> int:
        return self.frozen + self.turned + self.trained + self.activations + self.loss

    @property
    def fits(self) -> bool:
        return self.total <= SHARE * self.free

    def told(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def plan_training(prepared: Prepared, free: int | None = None) -> TrainPlan:
    opened, config = prepared.opened, prepared.config
    places = dry_places(opened)
    pairs = find_pairs(opened, places, config)
    numbers = count_trained(pairs)
    frozen, turned = model_bytes(opened)
    tokens = largest_batch(prepared)
    learnt = min(tokens, LOGITS // opened.recipe.decoder.vocab)
    return TrainPlan(
        frozen,
        turned,
        FLOAT * numbers * (4 if config.accumulate == 1 else 5),
        activation_bytes(opened, places, config, tokens, longest(prepared)),
        FLOAT * learnt * opened.recipe.decoder.vocab * 4,
        available_bytes() if free is None else free,
        len(pairs.changed),
        len(places),
        numbers,
    )


def refuse_what_does_not_fit(prepared: Prepared, plan: TrainPlan) -> None:
    if plan.fits:
        return
    fixed = plan.frozen + plan.turned + plan.trained
    message = f"This takes {in_words(plan.total)} of memory, and {in_words(plan.free)} are free"
    if fixed > SHARE * plan.free:
        raise ModelError(f"{message}: the model and what is trained alone take {in_words(fixed)}; take a smaller one.")
    room = (SHARE * plan.free - fixed) / (plan.total - fixed)
    batch, length = int(prepared.config.batch * room), int(longest(prepared) * room)
    if batch >= 1:
        raise ModelError(f"{message}: batch: {batch} would fit, with accumulate to make up for it.")
    raise ModelError(f"{message}: batch: 1 and length: {max(2, length * prepared.config.batch)} would fit.")


def dry_places(opened: OpenedModel) -> Mapping[str, AdaptedLinear]:
    """The matrices that adapters may change, of arrays without bytes."""
    weights = outlined(opened.checkpoint, opened.recipe, opened.device)
    device = training_device(opened.device)
    decoder = build_blocks(opened.recipe, weights, device, adaptable=True)
    assert decoder.adapted is not None
    return decoder.adapted.places


def count_trained(pairs: Pairs) -> int:
    lengths = pairs.dora
    return sum(pairs.rank * (out + inputs) + (out if lengths else 0) for out, inputs in pairs.shapes.values())


def model_bytes(opened: OpenedModel) -> tuple[int, int]:
    """As it is multiplied by, and turned round."""
    seen = dry_run(opened.checkpoint, opened.recipe, opened.device, opened.dtype)
    if not opened.device.native:
        return seen.weights.total, 0
    weights = outlined(opened.checkpoint, opened.recipe, opened.device, centred=True)
    frozen, turned = seen.weights.total, 0
    for name, matrix in seen.order.items():
        size = math.prod(weights[name].shape)
        if matrix and weights[name].ndim == 2:
            turned += int(size * back_bytes(weights[name].shape[0], exact=opened.device.precision == "exact"))
        elif matrix:  # experts are widened
            frozen += FLOAT * size - packed_bytes(weights[name])
    return frozen, turned


def back_bytes(columns: int, *, exact: bool) -> float:
    if exact:
        return FLOAT
    return 2 if columns % BACK_GROUP else BACK_BITS / 8 + 2 * FLOAT / BACK_GROUP


def activation_bytes(
    opened: OpenedModel, places: Mapping[str, AdaptedLinear], config: TrainConfig, tokens: int, keys: int
) -> int:
    spec = opened.recipe.decoder
    wide = sum(KEPT * place.weight.shape[0] + config.rank for place in places.values())
    heads = sum(2 * layer.mixer.heads * keys for layer in spec.layers if isinstance(layer.mixer, Attention))
    return FLOAT * tokens * (wide + heads + KEPT * 2 * spec.dim * len(spec.layers))


def longest(prepared: Prepared) -> int:
    return max(one.count for one in prepared.data.examples)


def largest_batch(prepared: Prepared) -> int:
    """Tokens of rows that are read at once, whatever the order."""
    config, counts = prepared.config, sorted((one.count for one in prepared.data.examples), reverse=True)
    return config.batch * config.length if config.packing else sum(counts[: config.batch])
