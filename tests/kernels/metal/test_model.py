"""Models through the simulated kernels: SmolLM2's decode step gives the reference's token; greedy requests theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.cache.sequence import SequenceCache
from mlxrun.core import Request, Sampling
from mlxrun.engine.handle import Handle
from mlxrun.engine.runner import Runner
from mlxrun.engine.scheduler import Scheduler
from mlxrun.loading.forms import cast, hold_for_gpu
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.quantized import Weight
from mlxrun.weights import open_checkpoint, read_weights

from ..mslsim import Mode, settings
from .made import wide
from .test_launches import models

MLX, OURS = this_device("exact"), this_device("exact", chooser=Chooser("ours"))  # exact: keys are kept as they come
PROMPT = (1, 504, 3575, 282, 4649)  # what they say does not matter; five rows take the kernel for a few


def in_float32(weights: dict[str, Weight]) -> dict[str, Weight]:
    return {name: cast(weight, mx.float32) for name, weight in weights.items()}


def on_a_gpu(weights: dict[str, Weight]) -> dict[str, Weight]:
    return hold_for_gpu(weights, "gguf", "llama")


@pytest.mark.parametrize(("made", "off"), [(in_float32, 1e-3), (on_a_gpu, 5e-3)])
def test_smollm2_decodes_the_same_tokens(
    made: Callable[[dict[str, Weight]], dict[str, Weight]],
    off: float,
    smollm2_gguf: Path,
) -> None:
    checkpoint = open_checkpoint(smollm2_gguf)
    recipe = recipe_of(checkpoint)
    stored = read_weights(checkpoint, recipe)

    def step(weights: dict[str, Weight], device: Device) -> list[mx.array]:
        model = DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded)
        memory, found = SequenceCache(recipe.decoder, 64), []
        for ids in (PROMPT, (28,)):
            hidden = model(mx.array(ids), [(memory, len(ids))])[-1:]
            found.append(model.logits(hidden))
            mx.eval(found)
        best = model.best(hidden)
        return [*found, mx.argmax(found[-1], axis=-1) if best is None else best]

    *expected, token = step(in_float32(stored), MLX)
    with settings(Mode.PLAIN) as launches:
        *got, ours_token = step(made(stored), OURS)
    layers = len(recipe.decoder.layers)
    names = Counter(one.name.removeprefix("mlxrun_") for one in launches)
    decode = {"project": 1, "heads": 1, "paged_attention": 1, "experts_in": 1}
    assert {name: names[name] for name in decode} == {name: n * layers for name, n in decode.items()}
    assert names["qmv"] == 2 * layers + 2  # out and down of the step; the head, which the prompt has too
    assert names["greedy"] == names["best"] == 1
    assert ours_token.tolist() == token.tolist()
    for ours, theirs in zip(map(wide, got), map(wide, expected), strict=True):
        assert np.argmax(ours) == np.argmax(theirs)
        assert np.abs(ours - theirs).max() < off * np.abs(theirs).max()


GREEDY, DRAWN = Sampling(0.0), Sampling(0.8, seed=3)


def answers(model: Model, *asked: tuple[tuple[int, ...], int, Sampling]) -> list[list[int]]:
    """What the engine's own passes make of requests that come at once."""
    scheduler, runner = Scheduler(model, model.context, 0), Runner(model)
    handles = [Handle(Request(*one)) for one in asked]
    for handle in handles:
        scheduler.add(handle)
    while (plan := scheduler.plan()) is not None:
        assert runner.forward(plan) is None
        scheduler.commit(plan.ready)
    return [[token for event in handle.ready() for token in event.tokens] for handle in handles]


def test_greedy_requests_are_answered_without_logits() -> None:
    """Up to four rows a pass; where one row is drawn, or somebody asks how likely a token was, logits are made."""
    model, ours = (Model(models("qwen3", 1, mx.float32, device)[1]) for device in (MLX, OURS))
    prompts = ((5, 9, 2), (77,), (1, 2, 3, 4, 5), (8, 8))
    greedy = [(prompt, 5 + row, GREEDY) for row, prompt in enumerate(prompts)]
    several = [greedy[:1], greedy, [*greedy[:2], ((3, 1), 4, DRAWN)], [((9,), 3, Sampling(0.0, logprobs=0))]]
    for asked in several:
        tokens = answers(model, *asked)
        with settings(Mode.PLAIN) as launches:
            assert answers(ours, *asked) == tokens
        count = Counter(one.name.removeprefix("mlxrun_") for one in launches)
        steps = max(most for _, most, _ in asked)
        alone = {0: steps, 1: steps, 2: steps - 4, 3: 0}[several.index(asked)]  # passes of greedy rows only
        assert count["greedy"] == count["best"] == alone


def test_a_logit_that_is_not_a_number_ends_the_request() -> None:
    decoder = models("qwen3", 1, mx.float32, OURS)[1]
    decoder.norm.weight = decoder.norm.weight * mx.nan
    scheduler, runner, handle = (
        Scheduler(Model(decoder), 64, 0),
        Runner(Model(decoder)),
        Handle(Request((1, 2), 5, GREEDY)),
    )
    scheduler.add(handle)
    with settings(Mode.PLAIN) as launches:
        while (plan := scheduler.plan()) is not None:
            assert runner.forward(plan) is None
            scheduler.commit(plan.ready)
    last = list(handle.ready())[-1]
    assert last.reason == "The model computed something that is not a number."
    assert "mlxrun_greedy" in {one.name for one in launches}
