"""A checkpoint's own prediction head: its logits are those of mlx-lm's layer behind an entrance in NumPy, and its
drafts change no answer."""

from __future__ import annotations

import importlib
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.assistant import drafting
from mlxrun.core import Request, Sampling
from mlxrun.engine.aids import Aids
from mlxrun.engine.draft.head import PIECE, PredictionHead
from mlxrun.engine.draft.speculation import NOTHING, READ_FIRST, Riding, Speculation
from mlxrun.engine.engine import Engine
from mlxrun.engine.request import Row
from mlxrun.loading import LoadOptions, load_opened, open_model
from mlxrun.loading.heads import head_of, load_head
from mlxrun.spec import ModelError
from tests.engine.fake import FakeModel
from tests.golden.checkpoint import Checkpoint, reference, write
from tests.golden.layouts import prediction_layer

from .scripted import said, tokens
from .test_draft_model import Said

FAMILIES = ("glm4_moe", "deepseek_v3", "deepseek_v3_whole_q")


def with_head(name: str) -> Checkpoint:
    """All of the head's layer drawn anew: nothing of it is like the layer that it was copied from."""
    checkpoint = prediction_layer(reference(name).checkpoint())
    at = f"model.layers.{checkpoint.config['num_hidden_layers']}."
    random = np.random.default_rng(7)
    drawn = {
        key: (value + 0.3 * np.std(value) * random.standard_normal(value.shape)).astype(value.dtype)
        for key, value in checkpoint.weights.items()
        if key.startswith(at)
    }
    return replace(checkpoint, weights={**checkpoint.weights, **drawn})


@pytest.fixture(scope="module", params=FAMILIES)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    checkpoint = with_head(request.param)
    return checkpoint, write(checkpoint, tmp_path_factory.mktemp(request.param))


def normed(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def by_mlx_lm(checkpoint: Checkpoint, ids: np.ndarray, thought: np.ndarray) -> np.ndarray:
    """The head as a model of mlx-lm's with one layer, whose vocabulary are the rows that the entrance made."""
    config, count = dict(checkpoint.config), checkpoint.config["num_hidden_layers"]
    at, eps = f"model.layers.{count}.", config["rms_norm_eps"]
    mine = {name[len(at) :]: np.asarray(v, np.float64) for name, v in checkpoint.weights.items() if name.startswith(at)}
    embedded = normed(mine["embed_tokens.weight"][ids], mine["enorm.weight"], eps)
    joined = np.concatenate([embedded, normed(thought, mine["hnorm.weight"], eps)], axis=-1)
    rows = joined @ mine["eh_proj.weight"].T
    weights = {
        f"model.layers.0.{name}": value
        for name, value in mine.items()
        if not name.startswith(("enorm", "hnorm", "eh_proj", "embed_tokens", "shared_head"))
    }
    weights |= {"model.embed_tokens.weight": rows, "model.norm.weight": mine["shared_head.norm.weight"]}
    weights["lm_head.weight"] = mine["shared_head.head.weight"]
    config |= {"num_hidden_layers": 1, "first_k_dense_replace": 0, "vocab_size": len(rows)}
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model: Any = module.Model(module.ModelArgs.from_dict(config))
    arrays = model.sanitize({name: mx.array(value.astype(np.float32)) for name, value in weights.items()})
    model.load_weights(list(arrays.items()), strict=False)
    model.eval()
    with mx.stream(mx.cpu):
        return np.array(model(mx.arange(len(rows))[None])[0])


def test_it_is_mlx_lm_s_layer_behind_an_entrance(shipped: tuple[Checkpoint, Path]) -> None:
    checkpoint, folder = shipped
    head = load_head(head_of(open_model(folder)), LoadOptions())
    random = np.random.default_rng(1)
    ids, thought = random.integers(0, 48, 11), random.standard_normal((11, head.spec.dim))
    expected = by_mlx_lm(checkpoint, ids, thought)
    memory = head.new_sequence(64)
    found = []
    for start, end in ((0, 5), (5, 6), (6, 11)):
        part = mx.array(thought[start:end].astype(np.float32))
        found.append(np.array(head.logits(head(mx.array(ids[start:end]), [(memory, end - start)], thought=part))))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=2e-3 * np.abs(expected).max())


class Always(Speculation):
    """Its head's drafts ride whenever everybody speaks."""

    def plan(self, rows: list[Row], plain: float | None) -> Riding:
        assert self._drafter is not None
        if any(row.ahead is not None and row.ahead.drafts for row in rows):
            return READ_FIRST
        if not all(row.speaks for row in rows):
            return NOTHING
        if any(row.ahead is not None for row in rows):
            return READ_FIRST
        self._look_back(rows)
        most = [max(0, min(3, row.limit - len(row.tokens) - 1)) for row in rows]
        found = self._drafter.propose(rows, most)
        for row, drafts in zip(rows, found, strict=True):
            row.drafting.proposed, row.drafting.proposer = drafts, self._drafter
        return Riding({row: drafts for row, drafts in zip(rows, found, strict=True) if drafts})


def test_answers_are_the_same_with_its_drafts(shipped: tuple[Checkpoint, Path]) -> None:
    _, folder = shipped
    opened = open_model(folder)
    prompts = [tuple((7 * i + 3 * n) % 48 for i in range(5 + 9 * n)) for n in range(3)]
    kinds = (Sampling(0), Sampling(0.9, seed=3), Sampling(0.8, seed=4, repetition_penalty=1.2))
    requests = [Request(prompt, 20, kind) for prompt, kind in zip(prompts, kinds, strict=True)]
    made: list[Always] = []

    def speculate(model: object, context: int) -> Speculation:
        head = PredictionHead(load := load_head(head_of(opened), LoadOptions()), load, context)
        made.append(Always((), head, see=head.see))
        return made[-1]

    answers = []
    for aids in (Aids(), Aids(speculate=speculate)):
        engine = Engine.start(lambda: load_opened(opened, LoadOptions()), 128, aids=aids)
        try:
            answers.append([tokens(events) for events in said(engine, requests)])
            answers[-1] += [tokens(events) for events in said(engine, requests[:1])]  # from what is kept of the prompt
        finally:
            engine.close()
    assert answers[0] == answers[1]
    (speculation,) = made
    assert speculation.counts.drafted > 20
    assert speculation.counts.given_up is None


def test_a_right_guess_is_taken(shipped: tuple[Checkpoint, Path]) -> None:
    """A head that is asked twice for the same says the same, and what it read of the model stays."""
    _, folder = shipped
    head = load_head(head_of(open_model(folder)), LoadOptions())
    drafter = PredictionHead(head, head, 64)
    row = Said(array("i", range(9)))
    thought = mx.random.normal((8, head.spec.dim), key=mx.random.key(3))
    drafter.see([(row, 0, 8)], thought)  # type: ignore[list-item]  # it is read like one
    (first,) = drafter.propose([row], [4])
    assert len(first.tokens) == 4
    row.tokens.append(first.tokens[0])
    drafter.see([(row, 8, 2)], mx.random.normal((2, head.spec.dim), key=mx.random.key(4)))  # type: ignore[list-item]
    (again,) = drafter.propose([row], [2])
    other = Said(row.tokens[:])
    both = mx.concatenate([thought, mx.random.normal((2, head.spec.dim), key=mx.random.key(4))])
    drafter.see([(other, 0, 10)], both)  # type: ignore[list-item]
    (whole,) = drafter.propose([other], [2])
    assert again == whole
    assert drafter.given_up is None


def test_a_person_s_wish_is_heard(shipped: tuple[Checkpoint, Path]) -> None:
    _, folder = shipped
    opened = open_model(folder)
    options, speculate = drafting(LoadOptions(draft_heads=True), opened, None)  # type: ignore[arg-type]  # no words here
    assert options.others.mapped > 0  # room is left for the head
    engine = Engine.start(lambda: load_opened(opened, options), 256, aids=Aids(speculate=speculate))
    try:
        (events,) = said(engine, [Request((1, 2, 3), 150, Sampling(0))])
        assert len(tokens(events)) == 150
        assert engine.drafts.given_up is None
        assert engine.drafts.drafted > 0  # probes, at least
    finally:
        engine.close()


def test_what_nobody_asks_for_is_bounded_and_left_as_it_is() -> None:
    drafter, row = PredictionHead(FakeModel(), FakeModel(), 4096), Said(array("i", [1]))
    for position in range(PIECE + 40):
        drafter.see([(row, position, 1)], mx.zeros((1, 4)))  # type: ignore[list-item]
    kept = row.drafting.hidden
    assert [at for at, _ in kept] == list(range(40, PIECE + 40))
    drafter.see([(row, PIECE + 40, 1)], mx.zeros((1, 4)))  # type: ignore[list-item]
    assert all(new is old for (_, new), (_, old) in zip(row.drafting.hidden, kept[1:], strict=False))
    drafter.see([(row, PIECE + 39, 1)], mx.zeros((1, 4)))  # type: ignore[list-item]  # two drafts were wrong
    assert [at for at, _ in row.drafting.hidden][-2:] == [PIECE + 38, PIECE + 39]


def test_a_checkpoint_without_heads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no prediction heads"):
        head_of(open_model(write(reference("glm4_moe").checkpoint(), tmp_path / "glm")))
    with pytest.raises(ModelError, match="not understood here"):
        head_of(open_model(write(reference("llama").checkpoint(), tmp_path / "llama")))
