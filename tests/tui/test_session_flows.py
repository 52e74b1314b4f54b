"""Sessions as a person meets them on the screen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from mlxrun.tui.sessions import Sessions
from mlxrun.tui.talk import Talk

from .fakes import chat, said
from .helpers import hides, idle, prompt, running, send, shows, until


def test_quit_and_return(tmp_path: Path) -> None:
    async def first() -> None:
        app, _ = chat(tmp_path, said("An answer to keep."))
        async with running(app) as pilot:
            await send(pilot, "keep this")
            await idle(pilot)
            await pilot.press(*"draft")
            await pilot.press("ctrl+q")
        app.sessions.close()

    async def second() -> None:
        app, _ = chat(tmp_path)
        async with running(app) as pilot:
            await shows(pilot, "keep this", "An answer to keep.")
            assert prompt(pilot).text == "draft"

    asyncio.run(first())
    asyncio.run(second())


def test_search_shows_the_passage_and_finds_tags(tmp_path: Path) -> None:
    sessions = Sessions.open(tmp_path / "sessions.db")
    for title, text in (("first", "words " * 50 + "a TEAPOT [bold]here[/bold] " + "more " * 50), ("second", "cups")):
        talk = Talk(sessions)
        talk.say(title)
        talk.answer("tiny", text)
        if title == "second":
            sessions.tag(talk.session or 0, "#kitchen")
    sessions.close()

    async def run() -> None:
        app, _ = chat(tmp_path)
        async with running(app) as pilot:
            await pilot.press("ctrl+o", *"teapot")
            await shows(pilot, "first", "a TEAPOT [bold]here[/bold] more")
            await hides(pilot, "second  ")
            await pilot.press(*["backspace"] * 6, *"#kit")
            await shows(pilot, "second", "#kitchen")

    asyncio.run(run())


def test_an_answer_cut_off_by_the_end_of_the_program_can_be_asked_again(tmp_path: Path) -> None:
    sessions = Sessions.open(tmp_path / "sessions.db")
    talk = Talk(sessions)
    talk.say("the question")
    talk.save(replace(talk.answer("tiny"), content="half an ans"))
    sessions.close()

    async def run() -> None:
        app, _ = chat(tmp_path, said("A whole answer."))
        async with running(app) as pilot:
            await shows(pilot, "half an ans", "This answer was interrupted.", "ctrl+r tries again")
            await pilot.press("ctrl+r")
            await shows(pilot, "A whole answer.")
            await hides(pilot, "half")

    asyncio.run(run())


def test_a_message_without_answer_can_be_answered(tmp_path: Path) -> None:
    sessions = Sessions.open(tmp_path / "sessions.db")
    Talk(sessions).say("hello?")
    sessions.close()

    async def run() -> None:
        app, _ = chat(tmp_path, said("Hello!"))
        async with running(app) as pilot:
            await shows(pilot, "hello?", "has no answer yet")
            await pilot.press("ctrl+r")
            await shows(pilot, "Hello!")
            await hides(pilot, "no answer yet")

    asyncio.run(run())


def test_new_session_search_and_open(tmp_path: Path) -> None:
    async def run() -> None:
        app, _ = chat(tmp_path, said("About tea."), said("About stars."))
        async with running(app) as pilot:
            await send(pilot, "what is oolong")
            await idle(pilot)
            await pilot.press("ctrl+n")
            await shows(pilot, "tiny is ready.")
            await send(pilot, "what is a quasar")
            await idle(pilot)
            await pilot.press("ctrl+o")
            await shows(pilot, "what is oolong", "what is a quasar", "just now")
            await pilot.press(*"tea")
            await until(pilot, lambda: app.screen.query_one("OptionList").option_count == 1)
            await pilot.press("enter")
            await shows(pilot, "About tea.")
            await pilot.press("ctrl+o", *"nowhere")
            await shows(pilot, "Nothing has these words.")

    asyncio.run(run())


def test_rename_delete_and_undo(tmp_path: Path) -> None:
    async def run() -> None:
        app, _ = chat(tmp_path, said("Yes."))
        async with running(app) as pilot:
            await send(pilot, "old name")
            await idle(pilot)
            await pilot.press("ctrl+o", "ctrl+r")
            await shows(pilot, "enter renames")
            await pilot.press("home", *"very ", "enter")
            await shows(pilot, "very old name")
            await pilot.press("ctrl+d")
            await shows(pilot, "What you write is kept here.", "ctrl+z brings it back")
            await pilot.press("ctrl+z")
            await shows(pilot, "very old name")
            await pilot.press("escape")
            assert app.chat.talk is not None
            assert app.chat.talk.title == "very old name"
            await pilot.press("ctrl+o", "ctrl+d", "escape")
            await shows(pilot, "tiny is ready.")
            assert app.sessions.find() == []

    asyncio.run(run())


def test_changing_the_session_keeps_what_was_said_so_far(tmp_path: Path) -> None:
    from .helpers import gate

    async def run() -> None:
        app, backend = chat(tmp_path, said("The beginning and the end"))
        backend.clients[0].gate = gate()
        async with running(app) as pilot:
            await send(pilot, "go")
            await shows(pilot, "The")
            talk = app.chat.talk
            assert talk is not None
            await pilot.press("ctrl+n")
            await shows(pilot, "tiny is ready.")
            assert talk.session is not None
            assert app.sessions.turns(talk.session)[1].content == "The "
            assert app.sessions.turns(talk.session)[1].finish == "cancelled"

    asyncio.run(run())


def test_a_damaged_file_is_told_on_the_screen(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_text("not a database " * 100)

    async def run() -> None:
        app, _ = chat(tmp_path, said("Works."))
        async with running(app, (120, 30)) as pilot:
            await shows(pilot, "The saved sessions were damaged")
            await send(pilot, "go")
            await shows(pilot, "Works.")

    asyncio.run(run())
