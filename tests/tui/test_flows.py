"""Commands, branches, chips and the messages that are chosen by key, as a person meets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlxrun.tui.backend import Phase
from mlxrun.tui.messages import ModelProgress
from mlxrun.tui.theme import THEMES
from mlxrun.tui.widgets.message import AssistantMessage, Choosable
from textual.color import Color
from textual.events import Paste
from textual.widgets import TextArea

from mlxrun.client import Piece
from mlxrun.core import Finish, Refusal

from .fakes import USAGE, FakeClient, chat, said
from .helpers import gate, hides, idle, in_app, prompt, running, seen, send, shows, until

FULL = [Piece(finish=Finish.REFUSED, reason="The prompt has 9,000 tokens.", refusal=Refusal.CONTEXT)]


@in_app
async def test_a_full_context_names_the_ways_out(folder: Path) -> None:
    app, backend = chat(folder, said("One."), FULL, said("They said one."))
    async with running(app) as pilot:
        await send(pilot, "first")
        await idle(pilot)
        await send(pilot, "second")
        await shows(pilot, "The prompt has 9,000 tokens.", "/compact", "/drop", "message is back")
        assert prompt(pilot).text == "second"
        prompt(pilot).load("/drop 1")
        await pilot.press("enter", "enter")  # the first may take what is offered
        await shows(pilot, "From here on the model is told nothing of the older messages")
        assert backend.clients[0].asked[-1][0]["content"] == "first"
        await send(pilot, "third")
        await idle(pilot)
        assert [message["content"] for message in backend.clients[0].asked[-1]] == ["third"]


@in_app
async def test_a_nearly_full_context_is_told_once(folder: Path) -> None:
    near = [
        *said("Long.")[:-1],
        Piece(finish=Finish.STOP, usage=replace(USAGE, prompt_tokens=7000, cached_tokens=3500)),
    ]
    app, _ = chat(folder, near)
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "86% of the context is used", "! ctx 86%", "50% of the prompt cached")


@in_app
async def test_ctrl_c_stops_an_answer_and_stacks_nothing(folder: Path) -> None:
    app, backend = chat(folder, said("The beginning and the end"))
    backend.clients[0].gate = gate()
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "The")
        await pilot.press("ctrl+c")
        await shows(pilot, "stopped · tiny")
        await pilot.press("ctrl+c", "ctrl+c", "ctrl+c")
        await shows(pilot, "ctrl+q quits")
        assert seen(app).count("ctrl+q quits") == 1


@in_app
async def test_esc_says_that_it_stops_while_a_prompt_is_read(folder: Path) -> None:
    app, backend = chat(folder, said("Late"))
    stream = backend.clients[0].stream
    waits = gate()

    class Deaf:
        def cancel(self) -> None:
            """A pass ends when it ends."""

        prompt_read = None

        def __iter__(self):
            waits.wait(10)
            yield Piece(finish=Finish.CANCELLED)

    backend.clients[0].stream = lambda *a, **o: (stream(*a, **o), Deaf())[1]  # type: ignore[method-assign]  # a fake
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "reading")
        await pilot.press("escape")
        await shows(pilot, "stopping")
        waits.set()
        await until(pilot, lambda: prompt(pilot).text == "go")


@in_app
async def test_bytes_are_told_while_a_model_loads_and_no_speed(folder: Path) -> None:
    app, backend = chat(folder, said("Yes."))
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "10.0 tokens/s")
        backend.loaded.clear()
        app.open_model()
        app.post_message(ModelProgress(app._attempt, 30_000_000, 98_000_000))
        await shows(pilot, "loading 30.0 MB of 98.0 MB")
        assert "10.0 tokens/s" not in seen(app).splitlines()[-1]
        backend.loaded.set()
        await until(pilot, lambda: app.model.phase is Phase.READY)


@in_app
async def test_slash_commands_never_reach_the_model(folder: Path) -> None:
    app, backend = chat(folder)
    async with running(app) as pilot:
        await send(pilot, "/nothing")
        await shows(pilot, "There is no command /nothing")
        assert prompt(pilot).text == "/nothing"
        prompt(pilot).load("")
        await pilot.press(*"/hel")
        await shows(pilot, "› /help")
        await pilot.press("enter")
        await shows(pilot, "Keys", "esc closes")
        assert backend.clients[0].asked == []


@in_app
async def test_names_of_models_are_completed(folder: Path) -> None:
    app, backend = chat(folder)
    async with running(app) as pilot:
        await until(pilot, lambda: prompt(pilot).models, "the names are known")
        await pilot.press(*"/model", "space", *"smo")
        await shows(pilot, "› smollm2")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: backend.opened[-1] == "smollm2")


@in_app
async def test_settings_go_along_and_are_kept(folder: Path) -> None:
    app, backend = chat(folder)
    async with running(app) as pilot:
        for command in (
            "/system Be brief.",
            "/set temperature 0.2",
            "/preset save dry",
            "/think high",
            "/set temperature 9e9",
        ):
            await send(pilot, command)
        await shows(pilot, "temperature must be")
        prompt(pilot).load("")
        await send(pilot, "go")
        await idle(pilot)
        client = backend.clients[0]
        assert client.asked[0][0] == {"role": "system", "content": "Be brief."}
        told = {"enable_thinking": True, "reasoning_effort": "high"}
        assert client.options[0] == {"temperature": 0.2, "template": told}
        await pilot.press("ctrl+n")
        await send(pilot, "/preset dry")
        await send(pilot, "again")
        await idle(pilot)
        assert client.options[1] == {"temperature": 0.2}


@in_app
async def test_regenerating_keeps_the_other_and_brackets_walk(folder: Path) -> None:
    app, _ = chat(folder, said("First try."), said("Second try."))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        await pilot.press("ctrl+r")
        await shows(pilot, "Second try.", "‹ 2 of 2 ›")
        await pilot.press("shift+tab")
        await shows(pilot, "c copy")
        await pilot.press("[")
        await shows(pilot, "First try.", "‹ 1 of 2 ›")
        await pilot.press("]")
        await shows(pilot, "Second try.")


@in_app
async def test_an_answer_again_that_fails_leaves_the_one_that_was_there(folder: Path) -> None:
    app, _ = chat(folder, said("First try."), FULL)
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        await pilot.press("ctrl+r")
        await shows(pilot, "First try.", "The prompt has 9,000 tokens.")
        assert [turn.content for turn in app.chat.talk.turns] == ["go", "First try."]


@in_app
async def test_messages_by_key(folder: Path) -> None:
    app, backend = chat(folder, said("So:\n\n```py\nx = 1\n```\n"), said("Other."))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        copied: list[str] = []

        async def copy(text: str, what: str) -> None:
            copied.append(text)

        app.copy = copy  # type: ignore[method-assign]  # no clipboard is here
        await pilot.press("shift+tab", "b", "c", "up", "c")
        await until(pilot, lambda: copied == ["x = 1\n", "So:\n\n```py\nx = 1\n```\n", "go"])
        await pilot.press("q")
        assert prompt(pilot).text == "> go\n\n"
        await pilot.press("shift+tab", "up", "e")
        assert prompt(pilot).text == "go"
        prompt(pilot).load("went")
        await pilot.press("enter")
        await shows(pilot, "Other.")
        await hides(pilot, "x = 1")
        await pilot.press("shift+tab", "up", "[")
        await shows(pilot, "x = 1")
        assert [message["content"] for message in backend.clients[0].asked[1]] == ["went"]
        await pilot.press("down", "d")
        await shows(pilot, "d once more")
        await pilot.press("d")
        await hides(pilot, "x = 1")
        assert len(list(app.chat.query(Choosable))) == 1


@in_app
async def test_the_code_of_a_message_becomes_a_file(folder: Path) -> None:
    app, _ = chat(folder, said("```py\nx = 1\n```\n"))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        for told in ("Written:", "There already"):
            prompt(pilot).focus()
            await pilot.press("shift+tab", "s")
            await shows(pilot, "Save the block as", "block.py")
            app.screen.query_one("Input").value = str(folder / "out.py")
            await pilot.press("enter")
            await shows(pilot, told)
        assert (folder / "out.py").read_text() == "x = 1\n"


@in_app
async def test_an_answer_in_other_words(folder: Path) -> None:
    app, backend = chat(folder, said("Wrong."))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        await pilot.press("shift+tab", "e")
        prompt(pilot).load("Right.")
        await pilot.press("enter")
        await shows(pilot, "Right.", "edited by you", "‹ 2 of 2 ›")
        assert len(backend.clients[0].asked) == 1


@in_app
async def test_files_and_long_pastes_are_chips(folder: Path) -> None:
    app, backend = chat(folder, said("Read."))
    notes = folder / "notes.txt"
    notes.write_text("a secret word")
    async with running(app) as pilot:
        prompt(pilot).post_message(Paste("line\n" * 40))
        await shows(pilot, "[paste 1]", "▣ paste 1 56 tokens")
        await pilot.press(*f" @{notes} ".replace("\n", ""))
        await pilot.press("enter")
        await shows(pilot, "Read.", "▣ paste 1", "notes.txt  4 tokens")
        told = backend.clients[0].asked[0][0]["content"]
        assert "a secret word" in told
        assert told.count("line") == 40
        await pilot.press("up")
        assert prompt(pilot).files[0].name == "paste 1"


@in_app
async def test_a_file_that_is_no_text_is_told_and_nothing_is_sent(folder: Path) -> None:
    app, backend = chat(folder)
    (folder / "b").write_bytes(b"\0")
    async with running(app) as pilot:
        await send(pilot, f"see @{folder / 'b'}")
        await pilot.press("enter")
        await shows(pilot, "attached.")  # one word: where the sentence breaks hangs on the folder's name
        assert backend.clients[0].asked == []


@in_app
async def test_compact_shows_the_summary_before_it_is_used(folder: Path) -> None:
    app, backend = chat(folder, said("One. " * 2000), said("A sum"), said("Two."))
    async with running(app) as pilot:
        await send(pilot, "first")
        await idle(pilot)
        await send(pilot, "/compact")
        await shows(pilot, "A sum", "ctrl+s uses it")
        app.screen.query_one(TextArea).insert("!")
        await pilot.press("ctrl+s")
        await shows(pilot, "From here on the model is told this summary", "A sum!")
        await send(pilot, "second")
        await idle(pilot)
        (told,) = backend.clients[0].asked[-1]
        assert told["content"].endswith("A sum!\n\nsecond")
        assert len(list(app.chat.query(AssistantMessage))) == 2  # nothing is lost of what was said


@in_app
async def test_export_and_import(folder: Path) -> None:
    app, _ = chat(folder, said("Green [bold]tea[/bold]."))
    async with running(app) as pilot:
        await send(pilot, "which tea?")
        await idle(pilot)
        await send(pilot, f"/export {folder / 'tea.json'}")
        await shows(pilot, "Written:")
        await send(pilot, f"/import {folder / 'tea.json'}")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.sessions.find("which")) == 2)
        await send(pilot, "/tag kitchen")
        await until(pilot, lambda: len(app.sessions.find("#kitchen")) == 1)


def luminance(colour: str) -> float:
    linear = (c / 255 / 12.92 if c <= 10.3 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in Color.parse(colour).rgb)
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_every_theme_can_be_read(name: str) -> None:
    theme = THEMES[name]
    colours = {**theme.variables, **{key: str(getattr(theme, key)) for key in ("foreground", "primary", "secondary")}}
    colours |= {key: str(getattr(theme, key)) for key in ("success", "warning", "error")}
    for ground in (theme.background, theme.surface, theme.panel):
        for text in ("foreground", "primary", "secondary", "success", "warning", "error", "faint", "code"):
            assert contrast(colours[text], str(ground)) >= 4.5, (text, ground)
    for mark in ("mark", "border", "border-blurred"):
        assert contrast(colours[mark], str(theme.background)) >= 3, mark
    cursor = colours["block-cursor-foreground"], colours["block-cursor-background"]
    assert contrast(*cursor) >= 4.5
    if "contrast" in name:
        assert contrast(colours["faint"], str(theme.background)) >= 7


def test_the_fake_knows_its_context() -> None:
    assert FakeClient().context == 8192
