"""Layers as one node: the same bits as layer by layer where both compute alike, and nobody else's keys are touched."""

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

CASES = ("llama", "qwen2", "qwen3", "smollm3")  # each step of theirs computes what a node of a single layer does
VOCAB = 48


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """A model, and the same one that goes layer by layer."""
    folder = write(reference(request.param).checkpoint(), tmp_path_factory.mktemp("stack"))
    stacked, single = load_model(folder), load_model(folder)
    assert isinstance(stacked, Model)
    assert isinstance(single, Model)
    assert len(stacked.decoder.runs) == 1
    single.decoder.runs = single.decoder.single
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


# ---- what does not fit is named ------------------------------------------------------------------

WIDTH, DIM, EXPERTS = 64, 16, 4
PAGE_BYTES = 2 * 2 * 8 * 16 * 4


def packed(*shape: int) -> Any:
    return native.pack_plain(mx.ones(shape))


def network(**changed: Any) -> Any:
    parts = {"gate": packed(96, 64), "up": packed(96, 64), "down": packed(64, 96), "act": "silu"}
    return native.Network(**{**parts, **changed})


def experts(**changed: Any) -> Any:
    stacks = {"gate": packed(4, 32, 64), "up": packed(4, 32, 64), "down": packed(4, 64, 32), "act": "silu"}
    return native.Network(**{**stacks, **changed})


def heads(**changed: Any) -> Any:
    return native.HeadWork(**{"dim": DIM, "step": DIM, **changed})


def norm(size: int = WIDTH, **changed: Any) -> Any:
    return native.RowNorm(**{"weight": mx.ones(size), "bias": None, "eps": 1e-5, **changed})


def begun() -> Any:
    """A stack with rows under several names."""
    stack = native.Stack(WIDTH, 24)
    stack.rope([(mx.ones(4), 1.0)], interleaved=False)
    stack.combine("x", "h", norm())
    weights = [packed(64, 64), packed(32, 64), packed(32, 64), packed(EXPERTS, 64)]
    stack.project("h", weights, [None] * 4, ["q", "k", "v", "logits"])
    return stack


def finished() -> Any:
    stack = begun()
    stack.attend(**PLAIN["attend"])
    stack.project("seen", [packed(64, 64)], [None], ["x"], onto="x")
    stack.feed("h", network(), "x", onto="x")
    return stack


CENTRED = norm(centred=True)
ROUTING = {"top_k": 2, "score": "softmax"}
WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("no step before", "combine", {"source": "nobody", "to": "h"}),
    ("norm must have shape", "combine", {"source": "x", "to": "h", "norm": norm(63)}),
    ("only a layer norm has a bias", "combine", {"source": "x", "to": "h", "norm": norm(bias=mx.ones(64))}),
    ("scale must have shape", "combine", {"source": "x", "to": "x", "scale": mx.ones(2)}),
    ("as many as are added", "combine", {"source": "k", "to": "sum", "onto": "x"}),
    ("x must stay 64", "combine", {"source": "k", "to": "x"}),
    ("no step writes it", "combine", {"source": "x", "to": "extra"}),
    ("must be as many", "project", {"weights": [packed(64, 64)], "biases": [], "to": ["q"]}),
    ("None in it", "project", {"weights": [None], "biases": [None], "to": ["q"]}),
    ("must have 64 inputs", "project", {"weights": [packed(64, 48)], "biases": [None], "to": ["q"]}),
    ("stack of experts", "project", {"weights": [packed(2, 64, 64)], "biases": [None], "to": ["q"]}),
    ("bias must have shape", "project", {"weights": [packed(64, 64)], "biases": [mx.ones(5)], "to": ["q"]}),
    ("where they lie", "project", {"weights": [packed(64, 64)], "biases": [None], "to": ["h"]}),
    ("only an RMS norm", "project", {"weights": [packed(64, 64)], "biases": [None], "to": ["q"], "norm": CENTRED}),
    ("only an RMS norm", "feed", {"network": network(), "norm": CENTRED}),
    ("norm must have shape", "feed", {"network": network(), "norm": norm(63)}),
    ("several", "project", {"weights": [packed(64, 64)] * 2, "biases": [None] * 2, "to": ["q", "k"], "onto": "x"}),
    ("up must have as many values", "activate", {"gate": "k", "act": "silu", "up": "extra", "up_at": 0, "to": "k"}),
    ("up must have as many values", "activate", {"gate": "k", "act": "silu", "up": "q", "up_at": 33, "to": "k"}),
    ("up must have as many values", "activate", {"gate": "k", "act": "silu", "up": "q", "up_at": -1, "to": "k"}),
    ("needs a gate", "activate", {"gate": "k", "act": "clamped_swiglu", "up": None, "up_at": 0, "to": "k"}),
    ("act must be", "activate", {"gate": "k", "act": "sine", "up": None, "up_at": 0, "to": "k"}),
    ("function", "gate", {"rows": "q", "gates": "k", "dim": 16, "at": 0, "step": 8, "by": "tanh"}),
    ("whole number of heads", "gate", {"rows": "q", "gates": "k", "dim": 24, "at": 0, "step": 8, "by": "sigmoid"}),
    ("values for each head", "gate", {"rows": "q", "gates": "k", "dim": 16, "at": 0, "step": 8, "by": "sigmoid"}),
    ("values for each head", "gate", {"rows": "q", "gates": "k", "dim": 16, "at": -1, "step": 1, "by": "sigmoid"}),
    ("values for each head", "gate", {"rows": "q", "gates": "k", "dim": 16, "at": 30, "step": 1, "by": "head_sigmoid"}),
    ("up must have 64 inputs", "feed", {"network": network(up=packed(96, 48))}),
    ("gate must have 64 inputs", "feed", {"network": network(gate=packed(96, 48))}),
    ("same number of rows", "feed", {"network": network(gate=packed(95, 64))}),
    ("down must have 96 inputs", "feed", {"network": network(down=packed(64, 95))}),
    ("as many as are added", "feed", {"network": network(down=packed(48, 96))}),
    ("stack of experts", "feed", {"network": network(up=packed(2, 96, 64))}),
    ("act must be", "feed", {"network": network(act="sine")}),
    ("needs a gate", "feed", {"network": network(gate=None, act="clamped_swiglu")}),
    ("needs a gate", "feed", {"network": network(gate=None, gate_bias=mx.ones(96))}),
    ("the bias of up", "feed", {"network": network(up_bias=mx.ones(95))}),
    ("where they lie", "feed", {"network": network(), "to": "h", "onto": None}),
    ("up must be a stack", "mix", {"network": network()}),
    ("down must be a stack of 4", "mix", {"network": experts(down=packed(3, 64, 32))}),
    ("logit for each expert", "mix", {"network": experts(), "logits": "k"}),
    ("bias of experts", "mix", {"network": experts(up_bias=mx.ones((4, 31)))}),
    ("top_k", "mix", {"network": experts(), "routing": native.Routing(5, score="softmax")}),
    ("groups", "mix", {"network": experts(), "routing": native.Routing(2, score="softmax", groups=3)}),
    ("groups", "mix", {"network": experts(), "routing": native.Routing(2, score="softmax", groups=2, top_groups=3)}),
    ("select_bias", "mix", {"network": experts(), "routing": native.Routing(**ROUTING, select_bias=mx.ones(3))}),
    ("whole number of heads", "attend", {"heads": heads(dim=24, step=24)}),
    ("whole number of heads", "attend", {"heads": heads(dim=0)}),
    ("whole number of heads", "attend", {"heads": heads(step=8)}),
    ("for each head of k and v", "attend", {"q": "k", "k": "q", "v": "q"}),
    ("the same heads", "attend", {"v": "q"}),
    ("values without keys", "attend", {"k": None}),
    ("keys without values", "attend", {"v": None}),
    ("latent value", "attend", {"v": None, "latent": 17}),
    ("no such rope", "attend", {"heads": heads(rope=1)}),
    ("freqs", "attend", {"heads": heads(rope=0, rope_at=9)}),
    ("q_norm must have shape", "attend", {"heads": heads(q_norm=norm(63))}),
    ("k_norm must have shape", "attend", {"heads": heads(k_norm=norm(64), scope="all")}),
    ("k_norm_size", "attend", {"heads": heads(k_norm_size=17)}),
    ("scope", "attend", {"heads": heads(scope="pair")}),
    ("temperature", "attend", {"heads": heads(temperature=[0.1, 0.0, 1.0])}),
    ("sinks must have shape", "attend", {"sinks": mx.ones(3)}),
    ("slopes must have shape", "attend", {"slopes": mx.ones(3)}),
    ("window", "attend", {"window": -1}),
    ("where they lie", "attend", {"to": "q"}),
    ("each head must have its matrix", "per_head", {"source": "q", "w": packed(4, 8, 16), "carried": 1, "to": "o"}),
    ("each head must have its matrix", "per_head", {"source": "q", "w": packed(8, 16), "carried": 0, "to": "o"}),
    ("goes elsewhere", "activate", {"gate": "k", "act": "silu", "up": None, "up_at": 0, "to": "k", "at": 4}),
    ("goes elsewhere", "activate", {"gate": "k", "act": "silu", "up": "q", "up_at": 0, "to": "q"}),
    ("as many values", "activate", {"gate": "k", "act": "silu", "up": None, "up_at": 0, "to": "o", "at": 32}),
    (
        "as many values",
        "activate",
        {"gate": "k", "act": "silu", "up": None, "up_at": 0, "to": "o", "at": 4, "size": 29},
    ),
    ("that are normed", "normalise", {"rows": "q", "at": 1, "size": 32, "parts": 2, "norm": norm(32)}),
    ("that are normed", "normalise", {"rows": "q", "at": -1, "size": 32, "parts": 1, "norm": norm(32)}),
    ("norm must have shape", "normalise", {"rows": "q", "at": 0, "size": 32, "parts": 2, "norm": norm(33)}),
    ("2 taps or more", "convolve", {"weight": mx.ones((1, 32))}),
    ("2 taps or more", "convolve", {"weight": mx.ones(32)}),
    ("channels of conv", "convolve", {"at": 1}),
    ("channels of conv", "convolve", {"at": -1}),
    ("channels of conv", "convolve", {"sources": []}),
    ("channels of conv", "convolve", {"sources": ["k", "v"]}),
    ("conv_bias must have shape", "convolve", {"bias": mx.ones(31)}),
    ("where they lie", "convolve", {"to": "k"}),
    ("a pace may not", "pace", {"by": "exp"}),
    ("value for each bias", "pace", {"at": 1}),
    ("value for each bias", "pace", {"bias": mx.ones(33)}),
    ("bias must be a vector", "pace", {"bias": mx.ones((1, 32))}),
    ("goes with decays", "pace", {"rate": mx.ones(32)}),
    ("goes with decays", "pace", {"by": "exp_softplus"}),
    ("for each of its own", "pace", {"by": "exp_softplus", "rate": mx.ones(5)}),
    ("lies elsewhere", "pace", {"to": "k"}),
    ("a must be", "scan_selective", {"a": mx.ones(32)}),
    ("value for each channel", "scan_selective", {"a": mx.ones((31, 8))}),
    ("value for each channel", "scan_selective", {"dt": "q"}),
    ("B and C of every entry", "scan_selective", {"at": 49}),
    ("B and C of every entry", "scan_selective", {"at": -1}),
    ("skip must have shape", "scan_selective", {"skip": mx.ones(31)}),
    ("as they are", "scan_selective", {"to": "q"}),
    ("rate must be a vector", "scan_space", {"rate": mx.ones((2, 1))}),
    ("skip must have shape", "scan_space", {"skip": mx.ones(3)}),
    ("value for each head", "scan_space", {"dt": "k"}),
    ("B and C for each group", "scan_space", {"dim": 16}),
    ("B and C for each group", "scan_space", {"groups": 3}),
    ("B and C for each group", "scan_space", {"dim": 0}),
    ("where they lie", "scan_space", {"to": "q"}),
    ("share one of k", "scan_delta", {"k_heads": 3}),
    ("share one of k", "scan_delta", {"k_dim": 0}),
    ("whole heads of v", "scan_delta", {"k_dim": 16}),
    ("for each channel of its keys", "scan_delta", {"decay": "q"}),
    ("where they lie", "scan_delta", {"to": "logits"}),
    ("value for each channel", "scan_linear", {"into": "q"}),
    ("gate's bias must have shape", "scan_linear", {"decay_bias": mx.ones(31)}),
    ("rate must be a vector", "scan_linear", {"rate": mx.ones((1, 32))}),
    ("at least one table", "rope", {"tables": [], "interleaved": False}),
    ("freqs", "rope", {"tables": [(mx.ones((4, 1)), 1.0)], "interleaved": False}),
    ("freqs", "rope", {"tables": [(mx.ones(4, mx.float16), 1.0)], "interleaved": False}),
    ("as many freqs", "rope", {"tables": [(mx.ones(4), 1.0), (mx.ones(3), 1.0)], "interleaved": False}),
]
PLAIN: dict[str, dict[str, Any]] = {
    "attend": {
        "q": "q",
        "k": "k",
        "v": "v",
        "heads": heads(rope=0),
        "scale": 0.25,
        "softcap": 0.0,
        "window": 0,
        "chunk": 0,
        "sinks": None,
        "slopes": None,
        "latent": 0,
        "to": "seen",
    },
    "project": {"source": "h"},
    "convolve": {"sources": ["k"], "at": 0, "weight": mx.ones((3, 32)), "bias": None, "silu": True, "to": "o"},
    "pace": {
        "source": "k",
        "at": 0,
        "by": "softplus",
        "bias": mx.ones(32),
        "rate": None,
        "low": 0,
        "high": 1,
        "to": "o",
    },
    "scan_selective": {
        "u": "k",
        "dt": "v",
        "bc": "q",
        "at": 48,
        "a": mx.ones((32, 8)),
        "skip": mx.ones(32),
        "to": "o",
    },
    "scan_space": {
        "mixed": "q",
        "dt": "logits",
        "dim": 8,
        "groups": 2,
        "rate": mx.ones(4),
        "skip": mx.ones(4),
        "to": "o",
    },
    "scan_delta": {"mixed": "q", "decay": "logits", "beta": "logits", "k_heads": 2, "k_dim": 8, "to": "o"},
    "scan_linear": {
        "x": "k",
        "into": "k",
        "decay": "v",
        "to": "o",
        "rate": mx.ones(32),
        "into_bias": mx.ones(32),
        "decay_bias": mx.ones(32),
    },
    "feed": {"source": "h", "to": "x", "onto": "x"},
    "mix": {
        "source": "h",
        "logits": "logits",
        "to": "x",
        "onto": "x",
        "scales_input": False,
        "routing": native.Routing(**ROUTING),
    },
}


NUMBERED = [f"{step}-{number}" for number, (_, step, _) in enumerate(WRONG)]


@pytest.mark.parametrize(("told", "step", "arguments"), WRONG, ids=NUMBERED)
def test_steps_that_do_not_fit_are_named(told: str, step: str, arguments: dict[str, Any]) -> None:
    stack = begun()
    with pytest.raises(ValueError, match=told):
        getattr(stack, step)(**{**PLAIN.get(step, {}), **arguments})


def place_of(pages: Any, **changed: Any) -> Any:
    shape = {"size": 8, "heads": 2, "dim": 16, "v_dim": 16, "dtype": mx.float32}
    return native.PagePlace(pages, 0, **{**shape, **changed})


def batch_of(
    counts: Sequence[int] = (1,), offsets: Sequence[int] = (0,), tables: Sequence[Sequence[int]] = ((0,),)
) -> Any:
    return native.PagedBatch(counts, offsets, [array("i", table) for table in tables])


def test_arguments_that_do_not_fit_are_named() -> None:
    stack, pages = finished(), native.Pages(PAGE_BYTES, 8)
    x, extra, one, place = mx.zeros((1, 64)), mx.zeros((1, 3, 8)), batch_of(), place_of(pages)
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("x must be", (mx.zeros((1, 63)), extra, [place], [0], [one], [])),
        ("float32", (mx.zeros((1, 64), mx.float16), extra, [place], [0], [one], [])),
        ("extra", (x, None, [place], [0], [one], [])),
        ("extra", (x, mx.zeros((1, 23)), [place], [0], [one], [])),
        ("extra", (x, mx.zeros((2, 12)), [place], [0], [one], [])),
        ("rows of x", (mx.zeros((2, 64)), mx.zeros((2, 24)), [place], [0], [one], [])),
        ("one entry for each layer", (x, extra, [], [0], [one], [])),
        ("one entry for each layer", (x, extra, [place], [0, 0], [one], [])),
        ("name batches", (x, extra, [place], [1], [one], [])),
        ("name batches", (x, extra, [place], [-1], [one], [])),
        ("keep the heads", (x, extra, [place_of(pages, heads=1)], [0], [one], [])),
        ("keep the heads", (x, extra, [place_of(pages, dim=8)], [0], [one], [])),
        ("keep the heads", (x, extra, [place_of(pages, v_dim=-16)], [0], [one], [])),
        ("every position", (x, extra, [place], [0], [batch_of(offsets=(8,))], [])),
        ("must be there", (x, extra, [place], [0], [batch_of(tables=((-1,),))], [])),
        ("there is not", (x, extra, [place], [0], [batch_of(tables=((8,),))], [])),
        ("entry for each rope", (x, extra, [place], [0], [one], [[0], [0]])),
        ("for each sequence", (x, extra, [place], [0], [one], [[0, 0]])),
        ("of their rope", (x, extra, [place], [0], [one], [[1]])),
    ]
    for told, arguments in wrong:
        with pytest.raises(ValueError, match=told):
            stack(*arguments)
    mx.eval(stack(x, extra, [place], [0], [one], [[0]]))
    with pytest.raises(ValueError, match="in use"):
        stack.combine("x", "h")


def test_what_sequences_remember_must_fit() -> None:
    stack = native.Stack(32)
    stack.convolve(["x"], 0, mx.ones((3, 32)), None, True, "mixed")
    stack.combine("mixed", "x", onto="x")
    x, state = mx.ones((3, 32)), mx.ones((1, 2, 32))
    wrong: list[tuple[str, Any, Any]] = [
        ("each step that remembers", [], []),
        ("add up", [2], [[None]]),
        ("add up", [2, 2], [[None, None]]),
        ("must have rows", [3, 0], [[None, None]]),
        ("must have rows", [-1, 4], [[None, None]]),
        ("each sequence", [2, 1], [[None]]),
        ("of its step's shape", [3], [[mx.ones((1, 3, 32))]]),
        ("of its step's shape", [3], [[state.astype(mx.float16)]]),
    ]
    for told, counts, before in wrong:
        with pytest.raises(ValueError, match=told):
            stack(x, None, [], [], [], [], -1, counts, before)
    with pytest.raises(ValueError, match="must have rows"):
        stack(x[:0], None, [], [], [], [], -1, [], [[]])
    rows, first, second = stack(x, None, [], [], [], [], -1, [2, 1], [[None, state]])
    del rows
    np.testing.assert_array_equal(np.array(first), np.ones((1, 2, 32)))  # a state without the rows beside it
    assert second.shape == (1, 2, 32)


@pytest.mark.parametrize("bad", ["heads", "groups"])
def test_keys_of_others_must_be_for_these_heads(bad: str) -> None:
    stack = begun()
    stack.attend(**{**PLAIN["attend"], "k": None, "v": None})
    place = place_of(native.Pages(8 * PAGE_BYTES, 8), heads=3 if bad == "heads" else 2)
    with pytest.raises(ValueError, match="keep the heads" if bad == "heads" else "name batches"):
        stack(mx.zeros((1, 64)), mx.zeros((1, 24)), [place], [0 if bad == "heads" else 7], [batch_of()], [])
