"""The starter model as people run it: with drafts that ride in every pass it says token by token what it says alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from mlxrun.assistant import Assistant, Wish, drafting, template_of, tokenizer_of
from mlxrun.core import Request, Sampling
from mlxrun.engine.aids import Aids
from mlxrun.engine.draft.speculation import NOTHING, Riding
from mlxrun.engine.engine import Engine
from mlxrun.engine.request import Row
from mlxrun.loading import LoadOptions, load_model, open_model
from mlxrun.spec import ModelError
from mlxrun.text.same_tokens import why_not_same
from mlxrun.weights import open_checkpoint

from .scripted import Scripted, said, tokens

ASKED = ("Count from one to ten.", "Tell me about the sea.", "Write a haiku about rain.", "Hi")
COUNT = 24
KINDS = {
    "greedy": Sampling(0),
    "sampled": Sampling(0.8, seed=7),
    "penalties": Sampling(0.8, seed=8, top_p=0.9, repetition_penalty=1.2, presence_penalty=0.4),
}


class Switched(Scripted):
    """Drafts ride only while a test says so."""

    on = False

    def plan(self, rows: Sequence[Row], plain: float | None) -> Riding:
        return super().plan(rows, plain) if self.on else NOTHING


@pytest.fixture(scope="module")
def starter(smollm2_gguf: Path) -> Iterator[tuple[Engine, Switched, list[tuple[int, ...]]]]:
    opened = open_checkpoint(smollm2_gguf)
    tokenizer, template = tokenizer_of(opened), template_of(opened)
    rendered = [template.render([{"role": "user", "content": text}]) for text in ASKED]
    switched = Switched(lambda row: ())
    engine = Engine.start(lambda: load_model(smollm2_gguf), 1024, aids=Aids(speculate=lambda model, context: switched))
    yield engine, switched, [tuple(tokenizer.encode(text, special=True)) for text in rendered]
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4])
def test_token_by_token(starter: tuple[Engine, Switched, list[tuple[int, ...]]], kind: str, rows: int) -> None:
    engine, switched, prompts = starter
    requests = [Request(prompt, COUNT, KINDS[kind]) for prompt in prompts[:rows]]
    plain = [tokens(events) for events in said(engine, requests)]
    answers, random = dict(zip(prompts, plain, strict=False)), Random(rows)

    def says(row: Row) -> Sequence[int]:
        coming = answers[row.handle.request.tokens][len(row.tokens) - row.prompt :][: random.randrange(7)]
        return [random.randrange(40_000) if random.random() < 0.2 else token for token in coming]

    switched.says, switched.on, switched.rode = says, True, 0
    drafted = [tokens(events) for events in said(engine, requests)]
    switched.on = False
    assert drafted == plain
    assert switched.rode > 3


def test_it_drafts_for_itself(smollm2_gguf: Path) -> None:
    """As a draft model of its own: planned, loaded and checked beside itself, and it says the same."""
    wish = Wish(COUNT, Sampling(0.7, seed=3))
    told = []
    for options in (LoadOptions(512, drafts=False), LoadOptions(512, draft_model=smollm2_gguf)):
        assistant = Assistant.open(smollm2_gguf, options=options)
        try:
            pieces = list(assistant.chat([{"role": "user", "content": ASKED[1]}], wish))
            told.append("".join(part.text for piece in pieces for part in piece.parts))
            drafts = assistant.engine.drafts
        finally:
            assistant.close()
    assert told[0] == told[1]
    assert drafts.drafted
    assert drafts.accepted >= 0.9 * drafts.drafted


def test_other_tokens_are_refused_by_name(smollm2_gguf: Path) -> None:
    one = tokenizer_of(open_checkpoint(smollm2_gguf))

    class Other(type(one)):  # type: ignore[misc]  # whatever class it is
        def piece(self, token: int) -> str:
            return "something else" if token == 300 else super().piece(token)

    assert why_not_same(one, one) is None
    other = tokenizer_of(open_checkpoint(smollm2_gguf))
    other.__class__ = Other
    assert why_not_same(other, one) == f"token 300 is 'something else' there and {one.piece(300)!r} here"
    with pytest.raises(ModelError, match=r"cannot draft for .*, whose tokens are others: token 300 is"):
        drafting(LoadOptions(draft_model=smollm2_gguf), open_model(smollm2_gguf), other)
    other.marks = type(one.marks)(None, frozenset({1}))
    assert str(why_not_same(other, one)).startswith("answers end with [1] there and with [")
