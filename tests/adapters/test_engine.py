"""Several adapters of one model under one engine: each answer is what it is alone, and prefixes never cross."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.engine import Aids, Engine
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from tests.server.tiny import write_tiny

from .made import drawn_pairs, stored, write_peft

PROMPT = tuple(index * 7 % 90 for index in range(200))
NAMES = (None, "a", "b")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("adapted")
    base = write_tiny(folder / "base", context=1024)
    pairs = {name: drawn_pairs(stored(base), ord(name)) for name in "ab"}
    adapters = tuple((name, write_peft(folder / name, own)) for name, own in pairs.items())
    options = LoadOptions(adapters=adapters)
    made = Engine.start(lambda: load_model(base, options=options), aids=Aids(check_answers=True))
    yield made
    made.close()


def ask(adapter: str | None, prompt: tuple[int, ...] = PROMPT, tokens: int = 24, **more: object) -> Request:
    return Request(prompt, max_tokens=tokens, sampling=Sampling(temperature=0), adapter=adapter, **more)  # type: ignore[arg-type]  # of a request


def answered(engine: Engine, requests: list[Request]) -> list[tuple[tuple[int, ...], int]]:
    """Tokens, and how many of its prompt's were known."""
    handles, told = [engine.submit(request) for request in requests], []
    for handle in handles:
        events = list(handle)
        assert events[-1].finish in (Finish.LENGTH, Finish.STOP), events[-1].reason
        usage = events[-1].usage
        assert usage is not None
        told.append((tuple(token for event in events for token in event.tokens), usage.cached_tokens))
    return told


def test_a_prefix_of_one_never_serves_another(engine: Engine) -> None:
    first = {name: answered(engine, [ask(name)])[0] for name in NAMES}
    assert [cached for _, cached in first.values()] == [0, 0, 0]
    assert len({tokens for tokens, _ in first.values()}) == 3
    again = {name: answered(engine, [ask(name)])[0] for name in NAMES}
    assert [tokens for tokens, _ in again.values()] == [tokens for tokens, _ in first.values()]
    assert all(cached > 100 for _, cached in again.values())


@pytest.mark.skipif(not this_device().native, reason="bits are a row's own where the native kernels compute")
def test_answers_are_the_same_in_any_company(engine: Engine) -> None:
    prompts = [tuple(index * factor % 91 for index in range(40 + factor)) for factor in (3, 5, 11)]
    asked = [ask(name, prompt) for prompt in prompts for name in (*NAMES, "a")]
    alone = [answered(engine, [request])[0][0] for request in asked]
    together = [tokens for tokens, _ in answered(engine, asked)]
    assert together == alone


def test_several_answers_to_one_prompt_have_its_adapter(engine: Engine) -> None:
    handles = engine.submit_choices(ask("b", n=3))
    told = {tuple(token for event in handle for token in event.tokens) for handle in handles}
    assert told == {answered(engine, [ask("b")])[0][0]}


def test_an_unknown_name_is_refused(engine: Engine) -> None:
    (event,) = engine.submit(ask("c"))
    assert event.finish is Finish.REFUSED
    assert event.reason == "This model has no adapter 'c'; there are a, b."
