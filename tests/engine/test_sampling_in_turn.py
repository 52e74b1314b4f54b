"""What a request draws while others come and go beside it: token by token as alone, also where it looks back."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Event, Finish, Refusal, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.engine.sampler import Draw
from mlxrun.ops.device import this_device

from . import sampling_oracle as oracle
from .fake import FakeModel

VOCAB = FakeModel.vocab
KINDS = {
    "repetition": Sampling(0, repetition_penalty=1.4),
    "window": Sampling(0.8, seed=1, repetition_penalty=1.4, repeat_last_n=3),
    "presence and frequency": Sampling(0.9, seed=2, presence_penalty=0.8, frequency_penalty=0.6),
    "dry": Sampling(0, dry_multiplier=3.0, dry_allowed_length=1, dry_breakers=frozenset({5, 7})),
    "min tokens": Sampling(1.0, seed=3, min_tokens=9),
    "bias and ban": Sampling(1.0, seed=4, bias=((3, 2.0),), banned=frozenset({4})),
    "allowed": Sampling(1.0, seed=5, allowed=frozenset(range(10, 30))),
    "xtc": Sampling(1.0, seed=6, xtc_probability=0.5, xtc_threshold=0.02),
    "mirostat": Sampling(1.0, seed=7, mirostat_tau=3.0),
    "plain": Sampling(0.7, seed=8, top_p=0.9, top_k=20),
    "greedy": Sampling(0),
}
WAVES = np.random.default_rng(0).normal(0, 2, (VOCAB, VOCAB)).astype(np.float32)


class WavyModel(FakeModel):
    """Its logits follow from the sum of all tokens so far; two of them in turn would repeat for ever."""

    def logits(self, hidden: mx.array) -> mx.array:
        return mx.array(WAVES)[hidden[:, 0] % 6]


def expected(prompt: list[int], sampling: Sampling, stop_ids: frozenset[int], count: int) -> list[int]:
    """One after the other, each read before the next is drawn, in float64."""
    text, surprise = list(prompt), None
    for index in range(count):
        logits = WAVES[sum(text) % 6]
        draw = Draw(sampling, sampling.seed or 0, index, text, len(prompt), stop_ids)
        scores = oracle.edited(logits, draw)
        if sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            p = oracle.chances(scores, sampling, coin=draw.coin, surprise=surprise)
            with np.errstate(divide="ignore"):
                token = int((oracle.times(VOCAB, draw.keys) / p).argmin())
            if sampling.mirostat_tau:
                before = 2 * sampling.mirostat_tau if surprise is None else surprise
                surprise = before - sampling.mirostat_eta * (-np.log2(p[token]) - sampling.mirostat_tau)
        text.append(token)
        if token in stop_ids:
            break
    return text[len(prompt) :]


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in event.tokens]


@pytest.mark.parametrize("native", [False, True])
def test_beside_others_as_alone(native: bool) -> None:
    device = this_device(native=native and this_device().native)
    model = type("ThatModel", (WavyModel,), {"device": device})
    stop_ids = frozenset(range(40, 70))
    engine = Engine.start(model)
    try:
        asked = {
            name: Request(tuple(range(1, 4 + index)), 5 + 3 * index, sampling, stop_ids)
            for index, (name, sampling) in enumerate(KINDS.items())
        }
        handles = {name: engine.submit(request) for name, request in asked.items()}
        for name, request in asked.items():
            events = list(handles[name])
            wanted = expected(list(request.tokens), request.sampling, stop_ids, request.max_tokens or 0)
            said = [token for token in wanted if token not in stop_ids]
            assert tokens(events) == said, name
            assert events[-1].finish is (Finish.STOP if len(said) < len(wanted) else Finish.LENGTH)
    finally:
        engine.close()


def test_what_leaves_nothing_ends_with_its_reason() -> None:
    engine = Engine.start(WavyModel)
    try:
        sampling = Sampling(0, min_tokens=3)
        last = list(engine.submit(Request((1,), 5, sampling, frozenset(range(VOCAB)))))[-1]
        assert last.finish is Finish.FAILED
        assert "No token is left to choose from" in str(last.reason)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        (Sampling(bias=((VOCAB, 1.0),)), "The sampling names a token id outside 0 to 96."),
        (Sampling(banned=frozenset({-1})), "The sampling names a token id outside 0 to 96."),
        (Sampling(min_tokens=6), "min_tokens must be at most max_tokens (5), not 6."),
    ],
)
def test_what_cannot_be_is_refused(sampling: Sampling, sentence: str) -> None:
    engine = Engine.start(WavyModel)
    try:
        last = list(engine.submit(Request((1,), 5, sampling)))[-1]
        assert (last.finish, last.refusal, last.reason) == (Finish.REFUSED, Refusal.REQUEST, sentence)
    finally:
        engine.close()
