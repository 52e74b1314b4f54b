"""A step of all layers as one node: the same bits as layer by layer, and nobody else's keys are touched."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from mlxrun.loading import load_model
from mlxrun.loading.model import Model
from tests.golden.checkpoint import reference, write

CASES = ("llama", "qwen2", "qwen3", "smollm3")
VOCAB = 48


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """A model, and the same one that goes layer by layer."""
    folder = write(reference(request.param).checkpoint(), tmp_path_factory.mktemp("stack"))
    stacked, single = load_model(folder), load_model(folder)
    assert isinstance(stacked, Model)
    assert isinstance(single, Model)
    assert stacked.decoder.stack is not None
    single.decoder.stack = None
    return stacked, single


def step(model: Model, ids: list[int], memories: list[Any], counts: list[int]) -> mx.array:
    return model(mx.array(ids, mx.int32), list(zip(memories, counts, strict=True)))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_the_same_bits_as_layer_by_layer(pair: tuple[Model, Model], rows: int) -> None:
    lengths = [3 + 7 * i for i in range(rows)]
    ids = [[(3 * i + j) % VOCAB for j in range(length)] for i, length in enumerate(lengths)]
    told = []
    for model in pair:
        memories = [model.new_sequence(300) for _ in range(rows)]
        for memory, prompt in zip(memories, ids, strict=True):
            step(model, prompt, [memory], [len(prompt)])
        outs = [step(model, [(5 * t + i) % VOCAB for i in range(rows)], memories, [1] * rows) for t in range(12)]
        told.append(np.array(mx.concatenate(outs)))  # twelve steps in one graph
        assert all(memory.length == length + 12 for memory, length in zip(memories, lengths, strict=True))
        assert all(memory.bytes > 0 for memory in memories)
    assert np.array_equal(told[0].view(np.uint32), told[1].view(np.uint32))


def test_prompts_beside_steps_have_the_same_bits_as_alone(pair: tuple[Model, Model]) -> None:
    model = pair[0]
    lengths, counts = (0, 70, 3, 260), (5, 1, 40, 1)
    texts = [
        [(7 * i + 3 * j) % VOCAB for j in range(length + count)]
        for i, (length, count) in enumerate(zip(lengths, counts, strict=True))
    ]

    def memories() -> list[Any]:
        made = [model.new_sequence(300) for _ in texts]
        for memory, text, length in zip(made, texts, lengths, strict=True):
            if length:
                step(model, text[:length], [memory], [length])
        return made

    together = np.array(
        step(model, [t for text, n in zip(texts, lengths, strict=True) for t in text[n:]], memories(), list(counts))
    )
    alone = [
        np.array(step(model, text[n:], [memory], [count]))
        for text, n, memory, count in zip(texts, lengths, memories(), counts, strict=True)
    ]
    single = [
        np.array(step(model, [token], [memory], [1]))
        for text, n, memory in zip(texts, lengths, memories(), strict=True)
        for token in text[n:]
    ]
    assert np.array_equal(together.view(np.uint32), np.concatenate(alone).view(np.uint32))
    assert np.array_equal(together.view(np.uint32), np.concatenate(single).view(np.uint32))


def test_a_first_token_and_growth_beyond_a_page(pair: tuple[Model, Model]) -> None:
    told = []
    for model in pair:
        memory = model.new_sequence(400)
        told.append(np.array(mx.concatenate([step(model, [t % VOCAB], [memory], [1]) for t in range(300)])))
    assert np.array_equal(told[0].view(np.uint32), told[1].view(np.uint32))


def test_a_pass_that_is_computed_late_sees_what_was_there(pair: tuple[Model, Model]) -> None:
    told = []
    for model in pair:
        memory = model.new_sequence(300)
        step(model, [1, 2, 3, 4], [memory], [4])
        late = step(model, [5, 6, 7], [memory], [3])
        memory.rewind(4)
        mx.eval(step(model, [9], [memory], [1]), step(model, [8], [memory], [1]))
        told.append(np.array(late))
    assert np.array_equal(told[0].view(np.uint32), told[1].view(np.uint32))


@dataclass
class Twin:
    """The same history on both models; outputs are looked at now and then, as an engine would."""

    models: tuple[Model, Model]
    memories: list[list[Any]] = field(default_factory=list)
    saved: list[Any] = field(default_factory=list)
    waiting: list[tuple[mx.array, mx.array]] = field(default_factory=list)

    def feed(self, which: list[int], counts: list[int], draw: random.Random) -> None:
        ids = [draw.randrange(VOCAB) for _ in range(sum(counts))]
        y = [step(m, ids, [own[i] for i in which], counts) for m, own in zip(self.models, self.memories, strict=True)]
        self.waiting.append((y[0], y[1]))

    def look(self) -> None:
        for one, other in self.waiting:
            assert np.array_equal(np.array(one).view(np.uint32), np.array(other).view(np.uint32))
        self.waiting.clear()


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_steps_prompts_snapshots_and_rewinds(pair: tuple[Model, Model], seed: int) -> None:
    draw = random.Random(seed)
    twin = Twin(pair, [[model.new_sequence(300) for _ in range(3)] for model in pair])
    for _ in range(60):
        chosen = draw.sample(range(3), draw.randint(1, 3))
        match draw.choice(["step"] * 6 + ["prompt", "save", "restore", "rewind", "look", "drop"]):
            case "step":
                twin.feed(chosen, [1] * len(chosen), draw)
            case "prompt":
                twin.feed(chosen, [draw.randint(1, 4) for _ in chosen], draw)
            case "save":
                twin.saved.append((chosen[0], [own[chosen[0]].fork() for own in twin.memories]))
            case "restore" if twin.saved:
                which, states = draw.choice(twin.saved)
                for own, state in zip(twin.memories, states, strict=True):
                    own[which] = state.fork()
            case "rewind":
                length = draw.randint(0, twin.memories[0][chosen[0]].length)
                assert all(own[chosen[0]].rewind(length) for own in twin.memories)
            case "look":
                twin.look()
            case "drop":  # what nobody looks at is never computed
                twin.waiting.clear()
        if any(own.length > 250 for own in twin.memories[0]):
            break
    for i in range(3):
        twin.feed([i], [2], draw)
    twin.look()


def small() -> tuple[Any, dict[str, Any], Any]:
    """A stack, a layer for it, and where that keeps its keys."""
    packed = lambda rows, cols: native.pack_plain(mx.random.normal((rows, cols)))  # noqa: E731 a shape, three times over
    parts = {
        "heads": [packed(64, 64), packed(32, 64), packed(32, 64)],
        "biases": [None, None, None],
        "dim": 16,
        "norms": native.HeadNorms(mx.ones(64), 1e-5),
        "scale": 0.25,
        "window": 0,
        "chunk": 0,
        "turned": False,
        "out": packed(64, 64),
        "gate": packed(96, 64),
        "up": packed(96, 64),
        "down": packed(64, 96),
        "act": "silu",
        "norm": mx.ones(64),
        "eps": 1e-5,
    }
    return native.Stack(), parts, place_of(native.Pages(PAGE_BYTES, 8))


PAGE_BYTES = 2 * 2 * 8 * 16 * 4


def place_of(pages: Any, **changed: Any) -> Any:
    shape = {"size": 8, "heads": 2, "dim": 16, "v_dim": 16, "dtype": mx.float32}
    return native.PagePlace(pages, 0, **{**shape, **changed})


def batch_of(
    counts: Sequence[int] = (1,), offsets: Sequence[int] = (0,), tables: Sequence[Sequence[int]] = ((0,),)
) -> Any:
    return native.PagedBatch(counts, offsets, [array("i", table) for table in tables])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"heads": [None, None, None]}, "heads"),
        ({"biases": [None]}, "biases"),
        ({"dim": 24}, "whole number of heads"),
        ({"dim": 0}, "whole number of heads"),
        ({"norm": mx.ones(63)}, "norm"),
        ({"out_bias": mx.ones(5)}, "out_bias"),
        ({"sinks": mx.ones(3)}, "sinks"),
        ({"act": "sine"}, "act"),
        ({"gate": None, "act": "clamped_swiglu"}, "gate"),
    ],
)
def test_layers_that_do_not_fit_are_named(changed: dict[str, Any], told: str) -> None:
    stack, parts, _ = small()
    with pytest.raises(ValueError, match=told):
        stack.add(**{**parts, **changed})


@pytest.mark.parametrize(
    ("name", "shapes", "told"),
    [
        ("heads", [(64, 64), (32, 64), (16, 64)], "keys and values must have the same heads"),
        ("heads", [(48, 64), (32, 64), (32, 64)], "whole number of heads for each head of k"),
        ("heads", [(64, 64), (32, 48), (32, 64)], "heads must have 64 inputs"),
        ("heads", [(64, 64), (0, 64), (0, 64)], "whole number of heads of dim rows"),
        ("heads", [(64, 48), (32, 48), (32, 48)], "as wide as the first"),
        ("out", [(64, 48)], "out must have 64 inputs"),
        ("out", [(48, 64)], "out and down must have as many rows"),
        ("out", [(2, 64, 64)], "out is a stack of experts"),
        ("gate", [(96, 48)], "gate must have 64 inputs"),
        ("gate", [(95, 64)], "gate and up must have the same number of rows"),
        ("up", [(96, 48)], "up must have 64 inputs"),
        ("down", [(64, 95)], "down must have 96 inputs"),
        ("down", [(48, 96)], "out and down must have as many rows"),
    ],
)
def test_weights_that_do_not_go_together_are_named(name: str, shapes: list[tuple[int, ...]], told: str) -> None:
    stack, parts, _ = small()
    stack.add(**parts)
    wrong = [native.pack_plain(mx.ones(shape)) for shape in shapes]
    with pytest.raises(ValueError, match=told):
        stack.add(**{**parts, name: wrong if name == "heads" else wrong[0]})


def test_arguments_that_do_not_fit_are_named() -> None:
    stack, parts, place = small()
    stack.add(**parts)
    none, x, one, pages = native.Rotation(None, None), mx.zeros((1, 64)), batch_of(), native.Pages(PAGE_BYTES, 8)
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("x must be", (mx.zeros((1, 63)), none, [place], [0], [one])),
        ("rows of x", (mx.zeros((2, 64)), none, [place], [0], [one])),
        ("one entry for each layer", (x, none, [], [0], [one])),
        ("one entry for each layer", (x, none, [place], [0, 0], [one])),
        ("name batches", (x, none, [place], [1], [one])),
        ("name batches", (x, none, [place], [-1], [one])),
        ("keep the heads", (x, none, [place_of(pages, heads=1)], [0], [one])),
        ("keep the heads", (x, none, [place_of(pages, dim=8)], [0], [one])),
        ("keep the heads", (x, none, [place_of(pages, v_dim=-16)], [0], [one])),
        ("every position", (x, none, [place], [0], [batch_of(offsets=(8,))])),
        ("must be there", (x, none, [place], [0], [batch_of(tables=((-1,),))])),
        ("there is not", (x, none, [place], [0], [batch_of(tables=((8,),))])),
        ("freqs", (x, native.Rotation(mx.ones(9), mx.zeros(1, mx.int32)), [place], [0], [one])),
        ("freqs", (x, native.Rotation(mx.ones((4, 1)), mx.zeros(1, mx.int32)), [place], [0], [one])),
        ("freqs", (x, native.Rotation(mx.ones(4, mx.float16), mx.zeros(1, mx.int32)), [place], [0], [one])),
        ("positions", (x, native.Rotation(mx.ones(4), mx.zeros(2, mx.int32)), [place], [0], [one])),
    ]
    for told, arguments in wrong:
        with pytest.raises(ValueError, match=told):
            stack(*arguments)
    mx.eval(stack(x, none, [place], [0], [one]))
    with pytest.raises(ValueError, match="in use"):
        stack.add(**parts)
