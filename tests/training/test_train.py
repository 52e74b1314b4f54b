"""Whole runs of a tiny model: the loss falls, what comes out is served at once, and a run that goes on is one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mlxrun
from mlxrun.spec import ModelError
from mlxrun.training.events import Evaluated, Sampled, Saved, Stepped

from .made import colours, pairs, run, said, write_rows


def losses(events: list[object]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Stepped)]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_loss_falls_and_the_adapter_answers(method: str, tmp_path: Path) -> None:
    _, events = run(tmp_path, colours(), method=method, steps=50, batch=5, rank=8)
    told = losses(events)
    assert told[0] > 2
    assert told[-1] < 0.3
    with mlxrun.load(tmp_path / "base", adapter=tmp_path / "out", context=128) as model:
        for row in colours():
            question, answer = (message["content"] for message in row["messages"])
            assert model.chat(question, temperature=0, max_tokens=1 + len(answer)).text == f" {answer}"


@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_pairs(objective: str, tmp_path: Path) -> None:
    _, events = run(tmp_path, pairs(), objective=objective, steps=12, batch=5, beta=0.5)
    told = losses(events)
    if objective == "dpo":
        assert told[0] == pytest.approx(0.6931, abs=1e-3)  # nothing is trained yet: log 2
    assert told[-1] < 0.5 * told[0]


@pytest.mark.parametrize("keys", [{}, {"method": "dora", "accumulate": 2, "batch": 1}, {"packing": True, "batch": 1}])
def test_a_run_that_goes_on_is_one_run_bit_for_bit(keys: dict[str, object], tmp_path: Path) -> None:
    how = {"steps": 7, "save": 3, "batch": 2, "schedule": "cosine", "warmup": 2, **keys}
    run(tmp_path, colours(), out="whole", **how)
    stop = KeyboardInterrupt

    with pytest.raises(stop):
        run(tmp_path, colours(), out="cut", listen=lambda event: interrupt(event, 5), **how)
    _, events = run(tmp_path, colours(), out="cut", resume=True, **how)
    assert [event.step for event in events if isinstance(event, Stepped)] == [4, 5, 6, 7]
    for file in ("adapter_model.safetensors", "adapter_config.json", "state.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == [1, 2, 3, 4, 5, 4, 5, 6, 7]


def interrupt(event: object, step: int) -> None:
    if isinstance(event, Stepped) and event.step == step:
        raise KeyboardInterrupt


def test_another_training_does_not_go_on(tmp_path: Path) -> None:
    run(tmp_path, colours(), steps=1)
    with pytest.raises(ModelError, match="of a training with another rank"):
        run(tmp_path, colours(), steps=1, rank=8, resume=True)
    with pytest.raises(ModelError, match="of a training with another data"):
        run(tmp_path, colours()[1:], steps=1, resume=True)
    with pytest.raises(ModelError, match="is there already: --resume"):
        run(tmp_path, colours(), steps=1)
    with pytest.raises(ModelError, match="There is nothing to go on with"):
        run(tmp_path, colours(), steps=1, out="new", resume=True)


def test_accumulated_batches_are_one_large_one(tmp_path: Path) -> None:
    """Whatever their lengths: a mean over tokens, not of means."""
    rows = [
        said("a", "b"),
        said("And what follows after all of that?", "Much, much more of the same kind."),
        *colours(),
    ]
    one, _ = run(tmp_path, rows, out="one", steps=2, batch=4)
    two, _ = run(tmp_path, rows, out="two", steps=2, batch=1, accumulate=4)
    batches = [[one.prepared.data.examples[n] for n in (0, 1, 2, 3)]]
    parts = [[example] for example in batches[0]]
    (loss, whole), (sum_of, summed) = one.gradients(batches), one.gradients(parts)
    assert sum_of == pytest.approx(loss, rel=1e-3)
    for name, gradient in whole.items():
        size = float(abs(gradient).max().item())
        assert float(abs(gradient - summed[name]).max().item()) <= 5e-3 * size + 1e-7
    assert two.done == 2


def test_it_evaluates_and_samples(tmp_path: Path) -> None:
    held = write_rows(tmp_path / "held.jsonl", colours()[:2])
    _, events = run(
        tmp_path, colours(), steps=4, batch=5, evaluate=str(held), evaluate_every=2, samples=["The colour after red?"]
    )
    kinds = [type(event) for event in events if not isinstance(event, Stepped)][1:]
    assert kinds == [Evaluated, Sampled, Saved, Evaluated, Sampled]
    first, last = (event.loss for event in events if isinstance(event, Evaluated))
    assert last < first
