"""DPO's and ORPO's losses against their formulas in float64, over logits of the model as it is served; and a vocabulary
that is gone through in parts."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.training import objectives
from mlxrun.training.config import TrainConfig
from mlxrun.training.examples import Example, PairExample
from mlxrun.training.objectives import loss_of, surprise, units
from tests.golden.checkpoint import reference, write
from tests.golden.measure import Driver

from .test_served import core_of, random_trained

BETA = 0.3


def example(ids: list[int], learnt_from: int) -> Example:
    return Example(np.array(ids, np.int32), np.arange(len(ids)) >= learnt_from)


def log_probabilities(driver: Driver, adapter: object, one: Example) -> np.ndarray:
    memory = driver.sequence()
    memory.adapter = adapter
    (logits,) = driver.run([(memory, one.ids.tolist())])
    wide = logits.astype(np.float64)
    logs = (
        wide
        - np.log(np.exp(wide - wide.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
        - wide.max(axis=1, keepdims=True)
    )
    rows = np.flatnonzero(one.learnt)
    return logs[rows - 1, one.ids[rows]]


@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_losses_of_pairs(objective: str, tmp_path: Path) -> None:
    known = reference("llama")
    base = write(known.checkpoint(), tmp_path)
    pairs, _, decoder = core_of(base)
    trained = random_trained(pairs, dora=False)
    config = TrainConfig("m", (), "", rank=3, alpha=6, objective=objective, beta=BETA)
    ids = list(known.prompt)
    both = [
        PairExample(example(ids[:12], 5), example([*ids[:5], *ids[14:20]], 5)),
        PairExample(example(ids[3:20], 9), example([*ids[3:12], ids[2]], 9)),
    ]
    got = loss_of(decoder, pairs, config)(trained, both, units(both)).item()
    driver = Driver(load_model(base, options=LoadOptions(device=this_device("exact"))), known)
    losses = []
    for pair in both:
        sides = pair.chosen, pair.rejected
        before = [log_probabilities(driver, None, side) for side in sides]
        after = [np.array(surprise(decoder, [side], pairs.adapter(trained)).logs, np.float64) for side in sides]
        if objective == "dpo":
            gained = [now.sum() - then.sum() for now, then in zip(after, before, strict=True)]
            losses.append(np.log1p(np.exp(-BETA * (gained[0] - gained[1]))))
        else:
            means = [now.mean() for now in after]
            odds = [mean - np.log1p(-np.exp(mean)) for mean in means]
            losses.append(-means[0] + BETA * np.log1p(np.exp(-(odds[0] - odds[1]))))
    assert got == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_vocabulary_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = reference("llama")
    pairs, config, decoder = core_of(write(known.checkpoint(), tmp_path))
    trained, one = random_trained(pairs, dora=False), example(list(known.prompt), 3)
    gradient = mx.value_and_grad(loss_of(decoder, pairs, config))
    whole, wanted = gradient(trained, [one], units([one]))
    monkeypatch.setattr(objectives, "LOGITS", 5 * decoder.spec.vocab)
    parts, found = gradient(trained, [one], units([one]))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-5)
    for name, array in wanted.items():
        top = float(mx.abs(array).max().item())
        assert float(mx.abs(array - found[name]).max().item()) <= 1e-4 * top
