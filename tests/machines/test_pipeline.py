"""A model in shares says what the whole one says, bit for bit: batches, answers that part, prompts that begin alike.

The shares are in one process here, and rows go from one to the next by a call; orders go as messages do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Event, Finish, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, load_opened, open_model
from mlxrun.loading.model import Model, Runnable
from mlxrun.loading.open import OpenedModel
from mlxrun.machines.cut import may_cut
from mlxrun.machines.follow import Sequences, Wrong
from mlxrun.machines.messages import SequenceOrder, Step, pack, unpack
from mlxrun.machines.pipeline import Orders, PipelinedModel
from mlxrun.machines.share import load_share, rows_of
from mlxrun.ops.device import this_device
from tests.golden.checkpoint import reference, write

# keys, windows, latents, experts, states alone and beside keys, learned positions
FAMILIES = (
    "llama",
    "gemma3",
    "deepseek_v3",
    "qwen3_moe",
    "gpt_oss",
    "gpt2",
    "qwen3_next",
    "jamba",
    "falcon_h1",
    "mamba2",
)
CONTEXT = 128
NATIVE = pytest.mark.skipif(not this_device().native, reason="native kernels compute a row alike in any batch")


class Shares:
    """The layers behind the first machine's, each share with sequences of its own."""

    def __init__(self, followers: Sequence[Model]) -> None:
        self.followers = [
            (model, Sequences(lambda context, own=model: own.new_sequence(context))) for model in followers
        ]
        self.parts: Sequence[Sequence[int]] = ()

    def step(self, step: Step) -> None:
        told = unpack(pack(step))
        assert told == step
        for _, sequences in self.followers:
            for order in step.orders:
                sequences.obey(*order)
        self.parts = step.parts

    def round(self, rows: mx.array) -> mx.array:
        for model, sequences in self.followers:
            memories = [(sequences[number], count) for number, count in self.parts]
            rows = model(rows, memories)
            mx.eval(rows, *[array for memory, _ in memories for array in memory.arrays()])
        return rows


def spread(opened: OpenedModel, shares: Sequence[range]) -> PipelinedModel:
    first, *rest = [load_share(opened, layers, LoadOptions()) for layers in shares]
    assert all(rows_of(model) == rows_of(first) for model in rest)
    others = Shares(rest)
    first.decoder.further = others.round
    return PipelinedModel(first, opened.recipe.decoder, Orders(others.step), CONTEXT)


def said(load: Callable[[], Runnable], asked: Sequence[Request]) -> list[list[Event]]:
    """Of requests that run side by side, and then of the first ones again, which others' words are kept of."""
    with closing(Engine.start(load, CONTEXT)) as engine:
        handles = [handle for request in asked for handle in engine.submit_choices(request)]
        found = [list(handle) for handle in handles]
        for request in asked[:2]:
            found += [
                list(handle) for handle in engine.submit_choices(replace(request, tokens=(*request.tokens, 5, 6)))
            ]
    return [[replace(event, usage=None) for event in events] for events in found]


def requests(vocab: int) -> list[Request]:
    prompts = [
        [(7 * place + 3 * number) % vocab for place in range(length)] for number, length in enumerate((90, 5, 33))
    ]
    plain = Sampling(temperature=0, logprobs=2)
    drawn = Sampling(temperature=1, seed=11, logprobs=1)
    return [
        Request(tuple(prompts[0]), max_tokens=9, sampling=plain),
        Request(tuple(prompts[1]), max_tokens=12, sampling=drawn, n=3),
        Request(tuple(prompts[2]), max_tokens=4, sampling=plain),
    ]


@NATIVE
@pytest.mark.parametrize("name", FAMILIES)
def test_shares_say_what_the_whole_model_says(name: str, tmp_path: Path) -> None:
    said_alike(open_model(write(reference(name).checkpoint(), tmp_path)))


@pytest.mark.parametrize("name", ["llama", "gemma3", "jamba"])
@pytest.mark.parametrize("native", [False, pytest.param(True, marks=NATIVE)])
def test_the_same_passes_have_the_same_bits(name: str, native: bool, tmp_path: Path) -> None:
    """Also where a row's bits hang on how many there are, and where each sequence keeps its own keys."""
    opened = open_model(write(reference(name).checkpoint(), tmp_path), device=this_device(native=native))
    count = len(opened.recipe.decoder.layers)
    expected = passes(load_opened(opened, LoadOptions()))
    found = passes(spread(opened, [range(1), range(1, count - 1), range(count - 1, count)]))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def passes(model: Runnable) -> list[np.ndarray]:
    """Two sequences, one that goes on twice, and one that is taken back where it can be."""
    found = []

    def run(*sequences: tuple[Any, int]) -> None:
        total = sum(count for _, count in sequences)
        hidden = model(mx.array([(5 * n + len(found)) % 40 for n in range(total)], mx.int32), sequences)
        logits = model.logits(hidden)
        mx.eval(logits, *[array for memory, _ in sequences for array in memory.arrays()])
        found.append(np.array(logits))

    one, other = model.new_sequence(CONTEXT), model.new_sequence(CONTEXT)
    run((one, 9))
    run((one, 1), (other, 5))
    copy = one.fork()
    assert copy is not None
    run((copy, 2), (other, 1), (one, 1))
    run((one, 3))
    assert copy.rewind(0)
    run((copy, 4), (one, 1))
    del other
    run((copy, 1))
    return found


def said_alike(opened: OpenedModel) -> None:
    layers = opened.recipe.decoder.layers
    asked = requests(opened.recipe.decoder.vocab)
    expected = said(lambda: load_opened(opened, LoadOptions()), asked)
    assert all(events[-1].finish is Finish.LENGTH for events in expected)
    cuts = [at for at in range(1, len(layers)) if may_cut(layers, at)]
    assert cuts
    for ends in {(cuts[0],), (cuts[-1],), tuple(cuts[:2])}:
        starts = (0, *ends)
        shares = [range(start, end) for start, end in zip(starts, (*ends, len(layers)), strict=True)]
        assert said(partial(spread, opened, shares), asked) == expected


def test_an_order_that_cannot_be_obeyed_is_told(tmp_path: Path) -> None:
    write(reference("llama").checkpoint(), tmp_path)
    model = load_share(open_model(tmp_path), range(1, 2), LoadOptions())
    sequences = Sequences(lambda context: model.new_sequence(context))
    sequences.obey(SequenceOrder.OPEN, 3, CONTEXT)
    for order, why in {
        (0, 3, CONTEXT): "there is a sequence 3 already",
        (1, 3, 3): "there is a sequence 3 already",
        (1, 4, 9): "there is no sequence 9 here",
        (2, 3, 5): "sequence 3 cannot be taken back to 5",
        (3, 8, 0): "there is no sequence 8 here",
        (9, 3, 0): "9 is no order",
    }.items():
        with pytest.raises(Wrong, match=why):
            sequences.obey(*order)
    sequences.obey(SequenceOrder.CLOSE, 3, 0)
    assert len(sequences) == 0
