"""What goes on inside a model, beside a small Llama written down in NumPy; and both transports' other readings."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import mlxrun
from mlxrun.client import Client, RequestError
from mlxrun.loading import tracing
from tests.golden.checkpoint import reference, write
from tests.server.process import serving
from tests.server.tiny import DIM, HEAD, HEADS, KV_HEADS, LAYERS, byte_tokenizer, write_tiny

TEXT = "Tell me more"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny", context=256)


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Client]:
    with mlxrun.load(folder) as own:
        yield own


@pytest.fixture(scope="module")
def there(folder: Path) -> Iterator[Client]:
    with serving(str(folder)) as server, mlxrun.connect(server.url) as own:
        yield own


def norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)  # its weights are ones


def turned(x: np.ndarray) -> np.ndarray:
    """(H, T, D), rotary with halves."""
    half = HEAD // 2
    angles = np.arange(x.shape[1])[:, None] * 10000.0 ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)


def llama(folder: Path, ids: list[int]) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """(what comes out of each layer, attention of each, log-probabilities), in float64."""
    w = {name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()}
    x, hidden, looks = w["model.embed_tokens.weight"][ids], [], []
    for n in range(LAYERS):
        at = {name.split(f"layers.{n}.")[1]: array for name, array in w.items() if f"layers.{n}." in name}
        h = norm(x)
        q, k, v = (
            (h @ at[f"self_attn.{name}_proj.weight"].T).reshape(len(ids), heads, HEAD).swapaxes(0, 1)
            for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
        )
        k, v = (np.repeat(part, HEADS // KV_HEADS, 0) for part in (turned(k), v))
        scores = turned(q) @ k.swapaxes(1, 2) / math.sqrt(HEAD)
        scores[:, ~np.tril(np.ones((len(ids), len(ids)), bool))] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        looks.append(weights)
        x = x + (weights @ v).swapaxes(0, 1).reshape(len(ids), -1) @ at["self_attn.o_proj.weight"].T
        h = norm(x)
        gate = h @ at["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ at["mlp.up_proj.weight"].T)) @ at["mlp.down_proj.weight"].T
        hidden.append(x)
    logits = norm(x) @ w["lm_head.weight"].T
    return hidden, looks, logits


def test_as_numpy_computes_it(here: Client, folder: Path) -> None:
    ids = here.tokenize(TEXT)
    hidden, looks, logits = llama(folder, ids)
    found = here.trace(TEXT, plain=True)
    assert found.shape == (LAYERS, len(ids), DIM)
    np.testing.assert_allclose(found, hidden, atol=0.03)  # products of eight bits, where native kernels compute
    found = here.trace(TEXT, what="attention", plain=True)
    assert found.shape == (LAYERS, HEADS, len(ids), len(ids))
    np.testing.assert_allclose(found, looks, atol=0.01)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert not np.triu(found[0, 0], 1).any()
    found = here.trace(TEXT, what="logits", layers=[-1], plain=True)
    np.testing.assert_allclose(found[0], logits, atol=0.05)


def test_layers_come_as_they_are_asked_for(here: Client) -> None:
    both = here.trace(TEXT, plain=True)
    np.testing.assert_array_equal(here.trace(TEXT, layers=[1, 0, -1], plain=True), both[[1, 0, 1]])


def test_answers_go_on_as_before(here: Client) -> None:
    before = here.chat(TEXT, temperature=0, max_tokens=8).text
    here.trace(TEXT, plain=True)
    assert here.chat(TEXT, temperature=0, max_tokens=8).text == before


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "fused forms here, which show nothing"),
        ({"plain": True, "what": "router"}, "No layer of this model has router to show: layer 0 has no experts"),
        ({"plain": True, "what": "router", "layers": [1]}, "Layer 1 has no experts"),
        ({"plain": True, "what": "dreams"}, "what must be one of hidden, attention, router, logits, not 'dreams'"),
        ({"plain": True, "layers": [2]}, "layers must be whole numbers from 0 to 1, not 2"),
        ({"plain": True, "layers": []}, "layers is empty"),
        ({"plain": True, "layers": ["a"]}, "not 'a'"),
    ],
)
def test_what_cannot_be_seen(here: Client, how: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        here.trace(TEXT, **how)


def test_too_much_to_give_back(here: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST", 1000)
    with pytest.raises(RequestError, match="ask for fewer layers"):
        here.trace(TEXT, plain=True)
    with pytest.raises(RequestError, match="no room in a context"):
        here.trace("a" * 300, plain=True)


def test_experts(tmp_path: Path) -> None:
    """Which were chosen, by the model's own router: as many as it chooses, and weights that add up to one."""
    place = write(reference("qwen3_moe").checkpoint(), tmp_path / "moe")
    vocabulary = json.loads((place / "config.json").read_text())["vocab_size"]
    tokenizer = byte_tokenizer()
    tokenizer.save(str(place / "tokenizer.json"))
    with mlxrun.load(place) as model:
        spec = model._transport.assistant.engine.model.spec  # type: ignore[attr-defined]  # to be compared with
        experts = [layer.ffn for layer in spec.layers if hasattr(layer.ffn, "router")]
        text = "".join(letter for letter in "!\"#$%&'()*" if max(model.tokenize(letter)) < vocabulary)
        found = model.trace(text, what="router", plain=True)
        assert found.shape == (len(experts), len(model.tokenize(text)), experts[0].experts)
        assert ((found > 0).sum(-1) == experts[0].router.top_k).all()
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
        assert len({tuple(row) for row in (found[0] > 0).tolist()}) > 1


def test_the_same_readings_here_and_there(here: Client, there: Client) -> None:
    assert here.tokenize("Tell é") == there.tokenize("Tell é")
    assert here.detokenize(here.tokenize("Tell é")) == there.detokenize(here.tokenize("Tell é")) == "Tell é"
    ours, theirs = here.score(TEXT, top=2), there.score(TEXT, top=2)
    assert [token.bytes for token in ours.tokens] == [token.bytes for token in theirs.tokens]
    assert math.isnan(ours.tokens[0].logprob)
    assert math.isnan(theirs.tokens[0].logprob)
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-3)
    assert [len(token.top) for token in ours.tokens] == [0] + [2] * (len(TEXT) - 1)
    np.testing.assert_allclose(here.embed(["a", "bc"]), there.embed(["a", "bc"]), atol=1e-6)
    for client in (here, there):
        assert client.embed("a", size=DIM).shape == (1, DIM)
        with pytest.raises(RequestError, match=r"must be 64, which .*tiny was trained for, not 8"):
            client.embed("a", size=8)
        with pytest.raises(RequestError, match="cannot rerank"):
            client.rerank("q", ["a"])
        with pytest.raises(RequestError, match="text must be a text, not ''"):
            client.score("")
        with pytest.raises(RequestError, match="texts must be a list of texts"):
            client.embed([])
    with pytest.raises(RequestError, match="A server tells nothing of what goes on inside"):
        there.trace(TEXT)


def test_the_score_is_that_of_the_logits(here: Client, folder: Path) -> None:
    ids = here.tokenize(TEXT)
    *_, logits = llama(folder, ids)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = logp[np.arange(len(ids) - 1), ids[1:]]
    found = [token.logprob for token in here.score(TEXT).tokens[1:]]
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert asyncio.run(here.ascore(TEXT)).logprob == pytest.approx(sum(found))
    assert repr(here.score("a")) == "Score(1 tokens, perplexity 1)"
    assert "NaN" not in here.score(TEXT)._repr_html_()
