"""Eight streams at once through real blocks and caches: each says what it says alone, up to ties of the logits."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Event, Finish, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import load_model
from tests.golden import checkpoint

from .simulated import Simulated

CASES = ("qwen3", "gemma3", "gpt_oss", "deepseek_v3", "qwen3_next", "jamba", "mamba2", "nemotron_h", "llama4_scout")
STREAMS = 8
TIE = 1e-3  # log-probabilities that near may change places with the order of float32 sums
GREEDY = Sampling(temperature=0, logprobs=4)


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in event.tokens]


def assert_same_up_to_a_tie(alone: list[Event], together: list[Event]) -> None:
    one, other = tokens(alone), tokens(together)
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            chances = [logprob for event in alone for logprob in event.logprobs][i]
            near = dict(chances.top).get(b, -np.inf)
            assert chances.logprob - near < TIE, f"token {i}: {a} alone, {b} beside others"
            return  # from here on they tell different stories


def compare(engine: Engine, prompts: list[tuple[int, ...]], count: int) -> None:
    requests = [Request(prompt, count, GREEDY) for prompt in prompts]
    alone = [list(engine.submit(request)) for request in requests]
    handles = [engine.submit(request) for request in requests]
    together = [list(handle) for handle in handles]
    for one, other in zip(alone, together, strict=True):
        assert one[-1].finish is other[-1].finish is Finish.LENGTH
        assert_same_up_to_a_tie(one, other)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_memory(name: str, tmp_path: Path) -> None:
    folder = checkpoint.write(checkpoint.reference(name).checkpoint(), tmp_path / name)
    engine = Engine.start(lambda: load_model(folder, dtype=mx.float32))
    try:
        rng = np.random.default_rng(5)
        lengths = [1, 2, 5, 9, 17, 3, 30, 12]
        prompts = [tuple(int(i) for i in rng.integers(0, engine.model.vocab, length)) for length in lengths]
        compare(engine, prompts, 12)
    finally:
        engine.close()


@pytest.mark.parametrize("name", CASES)
def test_who_stops_and_who_forks_says_the_same(name: str, tmp_path: Path) -> None:
    """With the loader's own forms: three answers to one prompt, two beside them, and every few passes one must stop."""
    folder = checkpoint.write(checkpoint.reference(name).checkpoint(), tmp_path / name)
    model = load_model(folder)
    rng = np.random.default_rng(6)
    prompts = [tuple(int(i) for i in rng.integers(0, model.vocab, length)) for length in (40, 25, 33)]
    alone = []
    for prompt in prompts:
        simulated = Simulated(model=model)
        handle = simulated.submit(prompt, max_tokens=12, sampling=GREEDY)
        simulated.finish()
        alone.append(simulated.events(handle))
    simulated = Simulated(model=model)
    told = [*simulated.submit_choices(prompts[0], max_tokens=12, sampling=GREEDY, n=3)]
    told += [simulated.submit(prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts[1:]]
    while simulated.scheduler.busy:
        simulated.step()
        if len(simulated.plans) in (2, 6, 7, 11, 15):
            simulated.scheduler.make_room("Memory is used up.")
    assert simulated.scheduler.counters.snapshot().totals["preemptions"] >= 3
    for one, handle in zip((alone[0], alone[0], *alone), told, strict=True):
        assert simulated.last(handle).finish is Finish.LENGTH
        assert_same_up_to_a_tie(one, simulated.events(handle))


def test_the_starter_model(smollm2_gguf: Path) -> None:
    from mlxrun.assistant import template_of, tokenizer_of
    from mlxrun.weights import open_checkpoint

    opened = open_checkpoint(smollm2_gguf)
    tokenizer, template = tokenizer_of(opened), template_of(opened)
    asked = [
        "Tell me about the sea.",
        "Count to ten.",
        "What is the capital of France, and what is it known for?",
        "Write a haiku.",
        "Why is the sky blue? " * 6,
        "Name three colours.",
        "Translate 'good morning' into Spanish.",
        "Hi",
    ]
    rendered = [template.render([{"role": "user", "content": text}]) for text in asked]
    prompts = [tuple(tokenizer.encode(text, special=True)) for text in rendered]
    engine = Engine.start(lambda: load_model(smollm2_gguf, dtype=mx.float32), 1024)
    try:
        compare(engine, prompts, 8)
    finally:
        engine.close()
