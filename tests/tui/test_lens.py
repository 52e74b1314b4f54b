"""The lens, the engine's screen and answers side by side."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxrun.tui.commands import CommandError
from mlxrun.tui.likely import beginning, chance, perplexity, placed, spelled, style_of, surprise_line
from mlxrun.tui.screens.compare import contestants
from mlxrun.tui.screens.engine import engine_lines
from mlxrun.tui.wishes import Wishes
from rich.cells import cell_len

from mlxrun.client import Piece, Said, Token

from .fakes import STOP, FakeClient, chat, said
from .helpers import idle, in_app, prompt, running, seen, send, shows, until


def token(text: str | bytes, likely: float = 0.9, *top: tuple[str, float]) -> Token:
    raw = text.encode() if isinstance(text, str) else text
    return Token(raw, math.log(likely), tuple(Token(other.encode(), math.log(value)) for other, value in top))


PARIS = [
    token("It", 0.95, ("It", 0.95)),
    token(" is", 0.9, (" is", 0.9)),
    token(" Paris", 0.15, (" London", 0.6), (" Paris", 0.15)),
    token(".", 0.99, (".", 0.99)),
]
PIECES = [*(Piece((Said(one.text),), (one,)) for one in PARIS), STOP]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=30), st.integers(2, 40))
def test_every_token_stands_in_lines_that_fit(texts: list[str], width: int) -> None:
    tokens = [token(text) for text in texts]
    laid = placed(tokens, width)
    for line in laid.lines:
        shown = "".join(cell.text for cell in line if cell.text != "↵")
        assert cell_len(shown) <= width
    back = "".join(cell.text for line in laid.lines for cell in line).replace("↵", "\n")
    assert back == "".join(spelled(tokens)).replace("\t", "    ")
    assert len(laid.first_line) == len(tokens)
    assert len(surprise_line(tokens, width)) <= width


def test_half_characters_join_the_next() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert spelled([token(b"a" + first), token(second), token("\x1b")]) == ["a", "é", "␛"]
    assert beginning([token(first), token(second)], "é", 0, token(second)) is None


def test_numbers_of_a_token() -> None:
    assert chance(PARIS[2]) == pytest.approx(0.15)
    assert "underline" in style_of(PARIS[2])
    assert "underline" not in style_of(PARIS[0])
    assert perplexity([token("a", 0.5), token("b", 0.5)]) == pytest.approx(2)
    assert beginning(PARIS, "It is Paris.", 2, PARIS[2].top[0]) == "It is London"
    assert beginning([token("hm"), *PARIS], "It is Paris.", 0, token("x")) is None  # a thought


@in_app
async def test_the_lens_paints_walks_and_goes_on_from_another_token(folder: Path) -> None:
    app, backend = chat(folder, said("Before."), PIECES, said(", of course."))
    async with running(app) as pilot:
        await send(pilot, "capital?")
        await idle(pilot)
        assert "logprobs" not in backend.clients[0].options[0]
        await pilot.press("ctrl+g")
        await shows(pilot, "The lens is on")
        await pilot.press("ctrl+r")
        await shows(pilot, "It is Paris.")
        await idle(pilot)
        assert backend.clients[0].options[1]["logprobs"] == 5
        await pilot.press("ctrl+g")
        await shows(pilot, "Lens · 4 tokens", "95.0%")
        await pilot.press("right", "right")
        await shows(pilot, "·London", "60.0%", "15.0%", "token 3")
        await pilot.press("home", "n")
        await shows(pilot, "token 3")
        await pilot.press("1")
        await shows(pilot, "It is London, of course.", "‹ 3 of 3 ›")
        assert backend.clients[0].asked[2][-1] == {"role": "assistant", "content": "It is London"}


@in_app
async def test_memory_and_engine(folder: Path) -> None:
    app, _ = chat(folder)
    async with running(app) as pilot:
        await pilot.press("ctrl+e")
        await shows(pilot, "Memory and engine", "what sequences remember", "prefix hits", "25%", "waiting")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.chat)


def test_an_engine_that_tells_little_is_shown() -> None:
    told = {"totals": {}, "now": {}, "seconds": {}}
    assert engine_lines(told, [], [], 30)
    assert "▁" in engine_lines(told, [0.0], [1.0, 2.0], 80)[1].plain


def test_who_is_compared() -> None:
    found = contestants(["temperature=0,seed=3", "org/model"], Wishes())
    assert [(one.name, one.model) for one in found] == [("temperature=0,seed=3", None), ("org/model", "org/model")]
    assert found[0].wishes.options() == {"temperature": 0.0, "seed": 3}
    assert len(contestants(["qwen"], Wishes())) == 2
    with pytest.raises(CommandError, match="3 at most"):
        contestants(["a", "b", "c", "d"], Wishes())


@pytest.mark.parametrize("size", [(120, 40), (40, 20)])
def test_answers_side_by_side(tmp_path: Path, size: tuple[int, int]) -> None:
    import asyncio

    async def run() -> None:
        app, backend = chat(tmp_path, said("First."), said("Cold."))
        backend.clients.append(FakeClient(answers=[said("Other.")]))
        backend.broken["gone"] = "There is no model 'gone'."
        async with running(app, size) as pilot:
            await send(pilot, "go")
            await idle(pilot)
            prompt(pilot).load("/compare temperature=0 other gone")
            await pilot.press("enter")
            await shows(pilot, "Cold.", "Other.", "There is no model")
            assert backend.clients[-1].asked == [[{"role": "user", "content": "go"}]]
            await pilot.press("2")
            await shows(pilot, "Other.", "‹ 2 of 2 ›")
            assert "Compare" not in seen(app)

    asyncio.run(run())
