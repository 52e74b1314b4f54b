"""What a person does in the chat, key by key, with a scripted client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mlxrun.tui.backend import Phase
from mlxrun.tui.widgets.conversation import LATEST
from mlxrun.tui.widgets.document import Document
from mlxrun.tui.widgets.message import AssistantMessage
from mlxrun.tui.widgets.reasoning import Reasoning
from textual.events import Key

from mlxrun.client import Piece, Said
from mlxrun.core import Finish

from .fakes import FakeBackend, FakeClient, chat, said
from .helpers import gate, hides, idle, in_app, prompt, running, seen, send, shows, until


@in_app
async def test_type_send_and_read_the_answer(folder: Path) -> None:
    app, backend = chat(folder, said("It is **Paris**."))
    async with running(app) as pilot:
        await pilot.press(*"hi")
        await pilot.press("ctrl+j", "y", "enter")
        await shows(pilot, "hi", "It is Paris.", "tiny · 21 tokens · 10.0 tokens/s", "98 MB weights", "12 MB KV")
        assert backend.clients[0].asked == [[{"role": "user", "content": "hi\ny"}]]
        assert prompt(pilot).text == ""
        assert app.sessions.turns(app.chat.talk.session)[1].content == "It is **Paris**."


@in_app
async def test_the_conversation_is_sent_whole(folder: Path) -> None:
    app, backend = chat(folder, said("One."), said("Two."))
    async with running(app) as pilot:
        await send(pilot, "first")
        await idle(pilot)
        await send(pilot, "second")
        await shows(pilot, "Two.")
        assert [message["content"] for message in backend.clients[0].asked[1]] == ["first", "One.", "second"]


@in_app
async def test_what_is_sent_while_the_model_loads_goes_when_it_is_there(folder: Path) -> None:
    app, backend = chat(folder, said("Now."), ready=False)
    async with running(app, ready=False) as pilot:
        await shows(pilot, "smollm2 is loading", "loading 0 s")
        await send(pilot, "early")
        await shows(pilot, "waiting for the model")
        assert backend.clients[0].asked == []
        backend.loaded.set()
        await shows(pilot, "early", "Now.")


@in_app
async def test_what_is_typed_in_one_burst_keeps_its_order(folder: Path) -> None:
    app, backend = chat(folder, said("Yes."))
    async with running(app) as pilot:
        for letter in "Tell me\rmore\nand more":  # without a pause: nothing is handled in between
            key = {"\r": "enter", "\n": "ctrl+j", " ": "space"}.get(letter, letter)
            app.post_message(Key(key, letter if letter.isprintable() else None))
        await until(pilot, lambda: prompt(pilot).text == "more\nand more")
        await idle(pilot)
        assert backend.clients[0].asked == [[{"role": "user", "content": "Tell me"}]]


@in_app
async def test_sent_before_the_sessions_are_open(folder: Path) -> None:
    app, _ = chat(folder, said("Here."))
    async with running(app) as pilot:
        app.chat.talk = None
        await pilot.press("x", "enter")
        await until(pilot, lambda: prompt(pilot).text == "")
        await app.open_session(None)
        await shows(pilot, "x", "Here.")


@in_app
async def test_esc_takes_back_what_waits_for_the_model(folder: Path) -> None:
    app, backend = chat(folder, ready=False)
    async with running(app, ready=False) as pilot:
        await send(pilot, "not yet")
        await shows(pilot, "waiting for the model")
        await pilot.press("escape")
        await until(pilot, lambda: prompt(pilot).text == "not yet")
        assert app.chat.talk.turns == []
        backend.loaded.set()


@in_app
async def test_esc_stops_the_answer_and_keeps_its_text(folder: Path) -> None:
    app, backend = chat(folder, said("The beginning and the end"))
    backend.clients[0].gate = gate()
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "The")
        await pilot.press("escape")
        await shows(pilot, "stopped · tiny")
        assert app.sessions.turns(app.chat.talk.session)[1].content == "The "
        await hides(pilot, "beginning")


@in_app
async def test_only_one_answer_at_a_time(folder: Path) -> None:
    app, backend = chat(folder, said("The beginning"))
    backend.clients[0].gate = gate()
    async with running(app) as pilot:
        await send(pilot, "go")
        await shows(pilot, "The")
        await send(pilot, "more")
        await shows(pilot, "One answer at a time")
        assert prompt(pilot).text == "more"
        backend.clients[0].gate.set()
        await idle(pilot)
        assert prompt(pilot).text == "more"


@pytest.mark.parametrize("key", ["up"])
def test_edit_and_resend_the_last_message(tmp_path: Path, key: str) -> None:
    async def run() -> None:
        app, backend = chat(tmp_path, said("Old."), said("New."))
        async with running(app) as pilot:
            await send(pilot, "wrong")
            await idle(pilot)
            await pilot.press(key)
            await shows(pilot, "editing: the old message stays as a branch")
            assert prompt(pilot).text == "wrong"
            await pilot.press("backspace", "t", "enter")
            await shows(pilot, "wront", "New.")
            await hides(pilot, "Old.")
            assert [turn.content for turn in app.sessions.turns(app.chat.talk.session)] == ["wront", "New."]
            assert backend.clients[0].asked[1] == [{"role": "user", "content": "wront"}]

    asyncio.run(run())


@in_app
async def test_editing_can_be_left_and_a_draft_comes_back(folder: Path) -> None:
    app, _ = chat(folder, said("Old."))
    async with running(app) as pilot:
        await send(pilot, "said")
        await idle(pilot)
        prompt(pilot).load("a draft")
        app.chat.action_edit()
        assert prompt(pilot).text == "said"
        await pilot.press("escape")
        assert prompt(pilot).text == "a draft"
        await shows(pilot, "said", "Old.")


@in_app
async def test_up_in_a_text_only_moves(folder: Path) -> None:
    app, _ = chat(folder, said("Old."))
    async with running(app) as pilot:
        await send(pilot, "said")
        await idle(pilot)
        prompt(pilot).load("one\ntwo")
        await pilot.press("up", "x")
        assert prompt(pilot).text == "onex\ntwo"


@in_app
async def test_a_refusal_is_one_sentence_and_the_prompt_comes_back(folder: Path) -> None:
    refused = [Piece(finish=Finish.REFUSED, reason="The prompt takes 9,000 tokens; the context holds 8,192.")]
    app, _ = chat(folder, refused, said("Better."))
    async with running(app) as pilot:
        await send(pilot, "much text")
        await shows(pilot, "The prompt takes 9,000 tokens", "back in the prompt.")
        assert prompt(pilot).text == "much text"
        assert app.chat.talk.title == ""
        assert app.sessions.turns(app.chat.talk.session) == []
        await pilot.press("enter")
        await shows(pilot, "Better.")
        await hides(pilot, "9,000")


@in_app
async def test_what_is_typed_meanwhile_is_not_lost_when_a_message_comes_back(folder: Path) -> None:
    app, backend = chat(folder, ready=False)
    async with running(app, ready=False) as pilot:
        await send(pilot, "first")
        await shows(pilot, "waiting")
        await pilot.press("x")
        await pilot.press("escape")
        await until(pilot, lambda: prompt(pilot).text == "first\n\nx")
        backend.loaded.set()


@in_app
async def test_a_server_that_goes_away_leaves_the_text_and_a_retry(folder: Path) -> None:
    cut = [Piece((Said("Half of it"),)), Piece(finish=Finish.FAILED, reason="The server went away.")]
    app, backend = chat(folder, cut, said("All of it."), server="http://127.0.0.1:8080")
    async with running(app) as pilot:
        await shows(pilot, "on 127.0.0.1:8080")
        await send(pilot, "tell")
        await shows(pilot, "Half of it", "The server went away.", "ctrl+r tries again", "its server left")
        assert app.sessions.turns(app.chat.talk.session)[1].content == "Half of it"
        backend.server = None
        await pilot.press("ctrl+r")
        await shows(pilot, "All of it.", "in this process")
        await hides(pilot, "Half")
        assert [message["content"] for message in backend.clients[0].asked[1]] == ["tell"]


@in_app
async def test_a_client_that_raises_is_a_sentence_too(folder: Path) -> None:
    app, backend = chat(folder)

    def raises(*_: object, **__: object) -> None:
        raise ConnectionResetError("Connection reset by peer")

    backend.clients[0].stream = raises  # type: ignore[method-assign]  # a client that breaks
    async with running(app) as pilot:
        await send(pilot, "tell")
        await shows(pilot, "Connection reset by peer", "Your message is back")
        assert prompt(pilot).text == "tell"


@in_app
async def test_reasoning_is_folded_and_counts(folder: Path) -> None:
    app, _ = chat(folder, said("Four.", reasoning="Two and two."))
    async with running(app) as pilot:
        await send(pilot, "2+2")
        await shows(pilot, "▸ Thought for a moment", "Four.")
        await hides(pilot, "Two and two.")
        await pilot.press("ctrl+t")
        await shows(pilot, "▾ Thought", "Two and two.")
        app.chat.query_one(Reasoning).seconds = 12.4
        await shows(pilot, "Thought for 12 s")
        turn = app.sessions.turns(app.chat.talk.session)[1]
        assert (turn.content, turn.reasoning) == ("Four.", "Two and two.")


@in_app
async def test_while_it_thinks_the_title_says_so(folder: Path) -> None:
    app, backend = chat(folder, said("", reasoning="Hmm, let me see"))
    backend.clients[0].gate = gate()
    async with running(app) as pilot:
        await send(pilot, "2+2")
        await shows(pilot, "▸ Thinking")
        await pilot.press("escape")
        await shows(pilot, "▸ Thought", "stopped")


@in_app
async def test_answer_again(folder: Path) -> None:
    app, _ = chat(folder, said("First try."), said("Second try."))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        await pilot.press("ctrl+r")
        await shows(pilot, "Second try.")
        await hides(pilot, "First try.")
        assert len(app.sessions.turns(app.chat.talk.session)) == 2


HOSTILE = (
    "\x1b[31mred\x1b]8;;http://bad\x07link \x9b5n [bold]x[/bold] [@click=app.quit]y[/] \u202eevil \u2066<b>b</b> \x00"
)
SHOWN = ("␛[31mred", "[bold]x[/bold]", "[@click=app.quit]y[/]", r"\u202e", r"\u2066<b>b</b>", r"\x9b5n", "␀")
DOCUMENT = (
    "# T\r\n\nA line\nand one\n\n- a\n- b\n  - c\n\n```py\nx = 1\n\ny\n```\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\n1. one\n2. two\n"
)


@in_app
async def test_control_sequences_and_markup_are_shown_and_not_obeyed(folder: Path) -> None:
    app, _ = chat(folder, said(HOSTILE, reasoning=HOSTILE))
    async with running(app, (120, 40)) as pilot:
        await send(pilot, HOSTILE)
        await idle(pilot)
        await pilot.press("ctrl+t")
        for sign in SHOWN:
            await shows(pilot, sign)
        screen = "".join(s.text for strip in app.screen._compositor.render_strips() for s in strip)
        assert not set(screen) & {"\x1b", "\x07", "\x9b", "\x00", "\u202e", "\u2066"}
        assert app.chat.talk.turns[1].content == HOSTILE  # kept as it was


@in_app
async def test_a_streamed_document_stands_as_if_it_came_at_once(folder: Path) -> None:
    app, _ = chat(folder, said(DOCUMENT))
    async with running(app, (80, 60)) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        before = seen(pilot.app)
        document = app.chat.query_one(".said", Document)
        document.read_again(document.source)
        await pilot.pause()
        assert seen(pilot.app) == before
        await shows(pilot, "A line", "and one", "x = 1")


@in_app
async def test_a_link_is_asked_about_and_only_web_links_open(folder: Path) -> None:
    app, _ = chat(folder, said("[web](https://example.org/x) and [file](file:///etc/passwd)"))
    opened: list[str] = []
    app.open_url = lambda url, **_: opened.append(url)  # type: ignore[method-assign]  # no browser in tests
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        answer = app.chat.query_one(AssistantMessage)
        said_there = answer.query_one(".said", Document)
        await pilot.click(said_there, offset=(3, 0))
        await shows(pilot, "Open this link?", "https://example.org/x")
        assert opened == []
        await pilot.click("#open")
        await until(pilot, lambda: opened == ["https://example.org/x"])
        said_there.action_link("file:///etc/passwd")
        await shows(pilot, "file:///etc/passwd", "Copy")
        assert not app.screen.query("#open")


@in_app
async def test_long_sessions_show_their_end_first(folder: Path) -> None:
    app, _ = chat(folder)
    async with running(app) as pilot:
        session, parent = app.sessions.create(), None
        for number in range(LATEST + 2):
            parent = app.sessions.say(session, f"message {number}", parent).id
        await app.open_session(session)
        await shows(pilot, f"message {LATEST + 1}")
        assert len(app.chat.query("UserMessage")) == LATEST
        await app.chat.action_earlier()
        await shows(pilot, "message 0")


@in_app
async def test_scrolling_up_lets_go_of_the_bottom(folder: Path) -> None:
    long, more = ("\n\n".join(f"{word} {n}" for n in range(60)) for word in ("line", "more"))
    app, _ = chat(folder, said(long), said(more))
    async with running(app) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        await shows(pilot, "line 59")
        for _ in range(4):
            await pilot.press("pageup")
        await hides(pilot, "line 59")
        await send(pilot, "again")
        await idle(pilot)
        await shows(pilot, "more 59")


@in_app
async def test_a_model_that_does_not_load_says_why_and_gives_the_text_back(folder: Path) -> None:
    app, backend = chat(folder, ready=False, broken={"smollm2": "There is no model 'smollm2'."})
    async with running(app, ready=False) as pilot:
        await send(pilot, "hello")
        backend.loaded.set()
        await shows(pilot, "There is no model 'smollm2'.", "not loaded")
        await until(pilot, lambda: prompt(pilot).text == "hello")
        backend.broken.clear()
        await pilot.press("enter")
        await shows(pilot, "Yes.")


@in_app
async def test_change_the_model(folder: Path) -> None:
    app, backend = chat(folder)
    other = FakeClient("other", [said("From the other.")])
    backend.clients = [backend.clients[0], other]
    first = backend.clients[0]
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "big [bold]", "17.3 GB", "open · 98.4 MB", "fetched when first used")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.model.name == "big [bold]" and app.model.phase is Phase.READY)
        assert first.closed
        await send(pilot, "who")
        await shows(pilot, "From the other.")
    assert backend.opened == ["smollm2", "big [bold]"]


@in_app
async def test_the_model_is_remembered(folder: Path) -> None:
    for expected in ("smollm2", "tiny"):
        app, backend = chat(folder)
        async with running(app):
            assert backend.opened == [expected]
            app.sessions.close()


@in_app
async def test_every_command_is_in_the_palette(folder: Path) -> None:
    app, _ = chat(folder, said("Done."))
    async with running(app) as pilot:
        dark = app.theme
        await pilot.press("ctrl+p")
        await shows(pilot, "Answer again", "Copy the last answer", "Light or dark")
        await pilot.press(*"light", "enter")
        await until(pilot, lambda: app.theme != dark, "the theme changed")
        await pilot.press("f1")
        await shows(pilot, "ctrl+r", "answer again")
        await pilot.press("escape")
        assert app.sessions.setting("theme") == app.theme


@in_app
async def test_control_characters_of_a_paste_become_signs(folder: Path) -> None:
    from textual.events import Paste

    app, _ = chat(folder)
    async with running(app) as pilot:
        prompt(pilot).post_message(Paste("a\r\nb\x1b[0m\tשלום"))
        await until(pilot, lambda: prompt(pilot).text)
        assert prompt(pilot).text == "a\nb␛[0m\tשלום"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 20), (30, 10)])
def test_it_can_be_used_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    async def run() -> None:
        app, _ = chat(tmp_path, said("The answer is here."))
        async with running(app, size) as pilot:
            await send(pilot, "go")
            await shows(pilot, "The answer is here.", "9.0 GB free" if size[0] >= 40 else "tokens/s")
            for key, text in (("ctrl+o", "Sessions"), ("ctrl+l", "Models"), ("f1", "Keys")):
                await pilot.press(key)
                await shows(pilot, text)
                await pilot.press("escape")

    asyncio.run(run())


def test_fakes_are_what_they_stand_for() -> None:
    from mlxrun.client import Client

    assert all(callable(getattr(Client, name)) for name in ("stream", "memory", "close"))
    assert FakeBackend().open.__name__ == "open"
