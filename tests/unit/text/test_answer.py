"""An answer as it comes from the engine: ordered parts, stop strings and the end, out of token events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from letters import Letters

from mlxrun.assistant import Answer, Assistant
from mlxrun.core import Event, Finish, Request, TokenLogprob
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle
from mlxrun.parts import AnswerPart, Piece, Said, Thought, Token, joined
from mlxrun.text.prompting import Prompter
from mlxrun.text.reasoning_formats import FORMATS
from mlxrun.text.router import PartRouter
from mlxrun.text.template import ChatTemplate
from mlxrun.turns import Ask, Calling, Role, Thinking, Tool, ToolChoice, Turn

OWN = Letters((), ("[THINK]", "[/THINK]"))
MISTRAL = next(form for form in FORMATS if form.name == "mistral")


def answered(text: str, finish: Finish = Finish.STOP, stops: Sequence[str] = ()) -> tuple[list[Piece], Handle]:
    handle = Handle(Request((1,)))
    for token in OWN.encode(text, special=True):
        handle.post(Event((token,), (TokenLogprob(-1.0, ((token, -1.0),)),)))
    handle.post(Event(finish=finish, reason="It broke." if finish is Finish.FAILED else None))
    return list(Answer(handle, OWN, stops, PartRouter(OWN, MISTRAL))), handle


def test_control_tokens_become_thoughts() -> None:
    pieces, _ = answered("[THINK]Hm[/THINK]Yes")
    whole = joined(pieces)
    assert (whole.parts, whole.finish) == ((Thought("Hm"), Said("Yes")), Finish.STOP)
    assert len(whole.tokens) == 7  # with the markers: that is what was drawn
    assert whole.tokens[1] == Token(b"H", -1.0, (Token(b"H", -1.0, (), ord("H")),), ord("H"))
    assert (whole.content, whole.reasoning) == ("Yes", "Hm")


def test_a_stop_ends_it_and_hides_what_comes_after() -> None:
    pieces, handle = answered("[THINK]a STOP b[/THINK]c", Finish.CANCELLED, [" STOP"])
    whole = joined(pieces)
    assert (whole.parts, whole.finish, whole.stop) == ((Thought("a"),), Finish.STOP, " STOP")
    assert handle.cancelled


def test_what_was_held_back_comes_with_the_end() -> None:
    pieces, _ = answered("[THINK]a ST", Finish.FAILED, ["STOP"])
    whole = joined(pieces)
    assert (whole.parts, whole.finish, whole.reason) == ((Thought("a ST"),), Finish.FAILED, "It broke.")


def test_an_assistant_finds_the_format_by_itself() -> None:
    class Saying:
        context = 100

        def submit_choices(self, request: Request) -> tuple[Handle, ...]:
            handle = Handle(request)
            handle.post(Event(tuple(OWN.encode("[THINK]a[/THINK]b", special=True))))
            handle.post(Event(finish=Finish.STOP))
            return (handle,)

    own = Assistant("own", cast(Engine, Saying()), Prompter(OWN, ChatTemplate({"default": "Hi"}, {})))
    parts: tuple[AnswerPart, ...] = joined(list(own.chat([{"role": "user", "content": "a"}]))).parts
    assert parts == (Thought("a"), Said("b"))
    assert joined(list(own.complete("a")[0])).parts == (Said("ab"),)


def test_what_is_counted_is_what_a_usage_tells() -> None:
    asked: list[Request] = []

    class Noting:
        context = 4096

        def submit_choices(self, request: Request) -> tuple[Handle, ...]:
            asked.append(request)
            return ()

    source = (Path(__file__).parents[2] / "data" / "templates" / "Qwen-Qwen3-0.6B.jinja").read_text()
    own = Assistant("own", cast(Engine, Noting()), Prompter(OWN, ChatTemplate({"default": source}, {})))
    turns = (Turn(Role.USER, ("Hi",)), Turn(Role.ASSISTANT, ("Well, ",), "Hm."))
    for ask in (
        Ask(turns[:1]),
        Ask(turns[:1], (Tool("look"),)),
        Ask(turns, (Tool("look"),), ToolChoice(Calling.NONE), Thinking(on=False), continues=True),
        Ask(turns[:1], template={"enable_thinking": False}),
    ):
        own.answer(ask)
        assert own.count(ask) == len(asked[-1].tokens)
    assert len({request.tokens for request in asked}) == 4
