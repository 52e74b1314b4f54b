"""Tools in OpenAI's chats: what fields become, and how calls are told. The SDK's accumulator is the oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mlxrun.core import Constraint, Finish, Shape
from mlxrun.parts import Arguments, CallBegun, CallEnded, Piece, Said, Thought
from mlxrun.server.dialects.openai import Framing
from mlxrun.server.dialects.openai_chat import ChatEncoder, ask_of
from mlxrun.server.tools import InputReader, input_of, object_of
from mlxrun.turns import Ask, Call, Calling, Picture, Role, Thinking, Tool, ToolChoice, Turn

from .scripted import ScriptedEngine, ask, error_of, server
from .test_exchange import USAGE

USER = {"role": "user", "content": "Hi"}
WEATHER = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
LARK = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a+/"}}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "p", "format": LARK}}
TOOLS = [{"type": "function", "function": WEATHER}, PATCH]


def asked(**fields: Any) -> Ask:
    return ask_of({"messages": [USER], **fields})


def test_a_conversation_with_calls_becomes_turns() -> None:
    calls = [
        {"id": "a", "type": "function", "index": 0, "function": {"name": "weather", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "custom", "custom": {"name": "patch", "input": 'say "a"'}},
        {"id": "c", "function": {"name": "weather", "arguments": ""}},
    ]
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "content": [{"type": "text", "text": "sun"}], "tool_call_id": "a"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "reasoning": "hm"},
    ]
    assert asked(messages=messages).turns == (
        Turn(Role.SYSTEM, ("Be brief.",)),
        Turn(Role.USER, ("Hi",), name="Ann"),
        Turn(
            Role.ASSISTANT,
            thoughts="hm",
            calls=(
                Call("a", "weather", '{"x": 1}'),
                Call("b", "patch", json.dumps({"input": 'say "a"'})),
                Call("c", "weather", "{}"),
            ),
        ),
        Turn(Role.TOOL, ("sun",), answers="a"),
        Turn(Role.ASSISTANT, ("No.",), "hm"),
    )


def test_tools_and_which_may_be_called() -> None:
    told = asked(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, reasoning_effort="low")
    weather, patch = told.tools
    assert weather == Tool("weather", "d", {"type": "object"}, strict=True)
    assert (patch.custom, patch.input) == (True, Constraint(Shape.LARK, "start: /a+/"))
    assert patch.parameters["required"] == ["input"]
    assert told.choice == ToolChoice(Calling.REQUIRED, (), parallel=False)
    assert told.thinking == Thinking(effort="low")


@pytest.mark.parametrize(
    ("choice", "calling", "names"),
    [
        (None, Calling.AUTO, ()),
        ("none", Calling.NONE, ()),
        ({"type": "function", "function": {"name": "weather"}}, Calling.REQUIRED, ("weather",)),
        ({"function": {"name": "weather"}}, Calling.REQUIRED, ("weather",)),
        ({"type": "custom", "custom": {"name": "patch"}}, Calling.REQUIRED, ("patch",)),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOLS[0]]}},
            Calling.AUTO,
            ("weather",),
        ),
    ],
)
def test_choices(choice: Any, calling: Calling, names: tuple[str, ...]) -> None:
    told = asked(tools=TOOLS, tool_choice=choice)
    once = calling is Calling.REQUIRED and len(names) == 1  # who names a tool wants it once
    assert told.choice == ToolChoice(calling, names, parallel=not once)


HELLO = {"role": "assistant", "content": "Hel"}


@pytest.mark.parametrize(
    ("last", "fields", "continues"),
    [
        (USER, {}, False),
        (USER, {"add_generation_prompt": True}, False),
        (HELLO, {}, True),
        (HELLO, {"continue_final_message": True, "add_generation_prompt": False}, True),
        (HELLO, {"continue_final_message": False}, False),
        (HELLO, {"add_generation_prompt": True}, False),
        ({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "weather"}}]}, {}, False),
    ],
)
def test_a_last_message_of_the_assistant_goes_on(last: Any, fields: Any, continues: bool) -> None:
    assert asked(messages=[USER, last], **fields).continues is continues


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"continue_final_message": True}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
    ],
)
def test_what_cannot_go_on_is_refused(fields: Any, param: str) -> None:
    own, _ = server()
    refused = ask(own, "/v1/chat/completions", {"messages": [USER], **fields})
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


def test_a_picture_comes_as_a_data_url_and_is_told_to_a_model_that_sees_none() -> None:
    url = "data:image/PNG;charset=x;base64,aGk="
    content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
    message = {"role": "user", "content": content}
    assert asked(messages=[message]).turns[0].content == ("What?", Picture("image/png", b"hi"))
    own, _ = server()
    refused = ask(own, "/v1/chat/completions", {"messages": [message]})
    assert refused.status_code == 400
    assert "sees no pictures" in error_of(refused)["message"]


def test_tools_of_others_are_left_out_and_told() -> None:
    own, engine = server()
    hosted = [{"type": "web_search_preview", "filters": {}}, {"type": "mcp"}]
    answer = ask(own, "/v1/chat/completions", {"messages": [USER], "tools": hosted})
    assert (answer.status_code, len(engine.asked)) == (200, 1)
    assert answer.headers["x-mlxrun-left-out"] == "tools: web_search_preview, tools: mcp"
    forced = {"messages": [USER], "tools": hosted, "tool_choice": "required"}
    assert error_of(ask(own, "/v1/chat/completions", forced))["param"] == "tool_choice"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", {}), ('{"a": 1}', {"a": 1}), ('{"a": ', {"input": '{"a": '}), ('"x"', {"input": '"x"'}), ("[" * 9999, None)],
)
def test_arguments_that_are_no_object_are_kept_as_text(given: str, kept: Any) -> None:
    assert json.loads(object_of(given)) == ({"input": given} if kept is None else kept)


@pytest.mark.parametrize("text", ["", 'a "b" \\ c\n', "é\U0001f600\ud83d", "\\u0041"])
@pytest.mark.parametrize("ascii", [True, False])
def test_a_custom_tool_s_text_is_read_in_pieces_of_any_size(text: str, ascii: bool) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii)
    text = text.replace("\ud83d", "\ufffd")  # half a character, which no answer could carry on
    assert input_of(arguments) == text
    for size in (1, 2, 3, 5):
        reader = InputReader()
        pieces = [reader.push(arguments[at : at + size]) for at in range(0, len(arguments), size)]
        assert "".join(pieces) == text
        assert all(piece == "" or piece.encode() for piece in pieces)  # no half of a character


CALLS = (
    Thought("hm"),
    Said("Look: "),
    CallBegun(0, "call_1", "weather"),
    Arguments(0, '{"city":'),
    Arguments(0, '"Rome"}'),
    CallEnded(0),
    CallBegun(1, "call_2", "patch"),
    Arguments(1, '{"input":"a\\n'),
    Arguments(1, 'b"}'),
    CallEnded(1),
)


def chunks(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.decode().split("\n\n") if line.startswith("data: {")]


def streamed(pieces: list[Piece], custom: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    encoder = ChatEncoder(Framing("m", True, False, 1), False, custom)
    return chunks(encoder.begin() + b"".join(encoder.piece(0, piece) for piece in pieces))


def whole(parts: tuple[Any, ...], finish: Finish, custom: tuple[str, ...] = ()) -> dict[str, Any]:
    encoder = ChatEncoder(Framing("m", False, False, 1), False, custom)
    told = encoder.whole([Piece(parts, finish=finish, usage=USAGE)])
    ChatCompletion.model_validate(told)
    choice: dict[str, Any] = told["choices"][0]
    return choice


def accumulated(told: list[dict[str, Any]]) -> Any:
    """As the SDK puts a stream together."""
    state = ChatCompletionStreamState()
    for chunk in told:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.current_completion_snapshot.choices[0]


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_stream_of_calls_is_what_the_sdk_puts_together(size: int) -> None:
    parts = CALLS[:6]
    pieces = [Piece(parts[at : at + size]) for at in range(0, len(parts), size)] + [Piece(finish=Finish.STOP)]
    told = streamed(pieces)
    first = next(c["choices"][0]["delta"] for c in told if "tool_calls" in c["choices"][0]["delta"])
    assert first["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    ]
    choice = accumulated(told)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Look: "
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Rome"}')
    assert whole(parts, Finish.STOP)["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    ]


def test_a_custom_call_is_told_as_text() -> None:
    told = [c["choices"][0] for c in streamed([Piece(CALLS), Piece(finish=Finish.STOP)], ("patch",))]
    calls = [call for choice in told for call in choice["delta"].get("tool_calls", ()) if call["index"] == 1]
    assert calls[0] == {"index": 1, "id": "call_2", "type": "custom", "custom": {"name": "patch", "input": ""}}
    assert "".join(call["custom"]["input"] for call in calls) == "a\nb"
    message = whole(CALLS, Finish.STOP, ("patch",))["message"]
    assert message["tool_calls"][1] == {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "a\nb"}}
    assert message["reasoning_content"] == "hm"


def test_content_is_null_beside_nothing_but_calls_and_a_cut_call_ends_by_length() -> None:
    choice = whole(CALLS[2:4], Finish.LENGTH)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", None)
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":'
    assert streamed([Piece(CALLS[2:4], finish=Finish.LENGTH)])[-1]["choices"][0]["finish_reason"] == "length"
    assert whole((), Finish.STOP)["message"]["content"] == ""


def test_a_retry_that_is_vain_is_told() -> None:
    own, _ = server(ScriptedEngine(finish=Finish.FAILED, reason="It broke."))
    answer = ask(own, "/v1/chat/completions", {"messages": [USER]})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")
    own, _ = server(ScriptedEngine(finish=Finish.CANCELLED))
    answer = ask(own, "/v1/chat/completions", {"messages": [USER]})
    assert answer.status_code == 503
    assert "x-should-retry" not in answer.headers
