"""A response's events, part by part; the accumulator of OpenAI's own client, which is strict, is the oracle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import openai
import pytest

from mlxrun.core import Finish, Usage
from mlxrun.parts import AnswerPart, Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought, Token
from mlxrun.server.dialects.responses_events import ResponseEncoder
from mlxrun.server.dialects.responses_items import ItemReader, carried, carried_in
from mlxrun.server.dialects.responses_output import Telling
from mlxrun.server.dialects.responses_tools import toolbox_of
from mlxrun.server.errors import ApiError
from mlxrun.server.tools import InputReader

Json = dict[str, Any]
TOOLS: list[Json] = [
    {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}},
    {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
    },
    {"type": "namespace", "name": "agents", "description": "", "tools": [{"type": "function", "name": "close"}]},
]
BOX = toolbox_of([(f"tools[{index}]", tool) for index, tool in enumerate(TOOLS)])
HEAD: Json = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "in_progress",
    "output": [],
}
HEAD |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
USAGE = Usage(7, 3, 5, 0.1, 0.1)
PATCH = '*** Begin Patch\n*** Add File: "ü.txt"\n+😀\\ \t\n*** End Patch\n'


def called(index: int, name: str, *arguments: str) -> list[AnswerPart]:
    begun = CallBegun(index, f"call_{index}", name)
    return [begun, *(Arguments(index, text) for text in arguments), CallEnded(index)]


def stream_of(parts: Sequence[AnswerPart], finish: Finish = Finish.STOP, **telling: Any) -> bytes:
    """One piece a part, as a quick reader gets them."""
    encoder = ResponseEncoder(HEAD, Telling(BOX.offered, **telling), None)
    frames = [encoder.piece(0, Piece((part,))) for part in parts]
    last = Piece(finish=finish, usage=USAGE)
    return encoder.begin() + b"".join(frames) + encoder.piece(0, last) + encoder.end([last])


def whole_of(parts: Sequence[AnswerPart], finish: Finish = Finish.STOP, **telling: Any) -> Json:
    encoder = ResponseEncoder(HEAD, Telling(BOX.offered, **telling), None)
    return encoder.whole([Piece(tuple(parts), finish=finish, usage=USAGE)])


def events_in(stream: bytes) -> list[Json]:
    events = [json.loads(part.split("\ndata: ")[1]) for part in stream.decode().split("\n\n")[:-1]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def without_ids(items: list[Json]) -> list[Json]:
    return [{key: value for key, value in item.items() if key != "id"} for item in items]


def accumulated(stream: bytes) -> Any:
    """What OpenAI's client makes of it: it raises where an event is out of its place."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=stream, headers={"content-type": "text/event-stream"})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1", http_client=http, max_retries=0)
    with client, client.responses.stream(model="m", input="x") as events:
        return events.get_final_response()


def unparsed(item: Json) -> Json:
    """Without what the client adds of its own."""
    content = [{key: part[key] for key in part if key != "parsed"} for part in item.get("content", [])]
    told = {key: value for key, value in item.items() if key != "parsed_arguments"}
    return told | ({"content": content} if "content" in item else {})


CONVERSATIONS: list[list[AnswerPart]] = [
    [Said("Hel"), Said("lo")],
    [],
    [Thought("Let me "), Thought("see."), Said("Yes.")],
    [Thought("a"), *called(0, "shell", '{"cmd"', ':"ls"}'), Thought("b"), Said("c"), *called(1, "agents__close", "{}")],
    called(0, "apply_patch", *json.dumps({"input": PATCH})),
    [Said("I patch."), *called(0, "apply_patch", '{"input":"x"}'), *called(1, "unheard_of", "{}")],
]


@pytest.mark.parametrize("parts", CONVERSATIONS)
@pytest.mark.parametrize("summary", [False, True])
def test_streamed_is_whole_and_the_client_agrees(parts: list[AnswerPart], summary: bool) -> None:
    stream = stream_of(parts, summary=summary, encrypted=True)
    whole = whole_of(parts, summary=summary, encrypted=True)
    last = events_in(stream)[-1]
    assert last["type"] == "response.completed"
    assert without_ids(last["response"]["output"]) == without_ids(whole["output"])
    told = accumulated(stream)
    assert [unparsed(item.to_dict()) for item in told.output] == last["response"]["output"]
    assert told.usage.total_tokens == 12


def test_who_waits_is_told_by_an_event() -> None:
    """One that counts for programs that watch for events, and changes nothing for who adds them up."""
    encoder, last = ResponseEncoder(HEAD, Telling(BOX.offered), None), Piece(finish=Finish.STOP, usage=USAGE)
    waited = [
        encoder.idle(),
        encoder.piece(0, Piece((Said("Hel"),))),
        encoder.idle(),
        encoder.piece(0, Piece((Said("lo"),))),
    ]
    stream = encoder.begin() + b"".join(waited) + encoder.end([last])
    events = events_in(stream)
    assert [event["type"] for event in events].count("response.in_progress") == 3
    assert accumulated(stream).output_text == "Hello"


def test_thoughts_are_told_as_text_or_as_a_summary_but_never_both() -> None:
    plain, summed = (events_in(stream_of([Thought("hm")], summary=summary)) for summary in (False, True))
    assert [event["type"] for event in plain][3:-2] == [
        *("response.content_part.added", "response.reasoning_text.delta"),
        *("response.reasoning_text.done", "response.content_part.done"),
    ]
    assert [event["type"] for event in summed][3:-2] == [
        *("response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"),
        *("response.reasoning_summary_text.done", "response.reasoning_summary_part.done"),
    ]
    assert plain[-1]["response"]["output"][0]["summary"] == []
    assert summed[-1]["response"]["output"][0]["content"] == []


def test_a_call_in_a_namespace_is_told_by_both_its_names() -> None:
    (call,) = whole_of(called(0, "agents__close", '{"target":"a"}'))["output"]
    assert (call["namespace"], call["name"], call["arguments"]) == ("agents", "close", '{"target":"a"}')
    assert call["call_id"] == "call_0"


def test_a_custom_tools_text_is_told_as_it_comes() -> None:
    events = events_in(stream_of(called(0, "apply_patch", *json.dumps({"input": PATCH}))))
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH
    assert len(deltas) > len(PATCH) / 2
    assert events[-1]["response"]["output"][0]["input"] == PATCH


def test_what_the_limit_cut_off_is_incomplete() -> None:
    parts = [*called(0, "shell", "{}"), CallBegun(1, "call_1", "shell"), Arguments(1, '{"cm')]
    for told in (whole_of(parts, Finish.LENGTH), events_in(stream_of(parts, Finish.LENGTH))[-1]["response"]):
        assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert [item["status"] for item in told["output"]] == ["completed", "incomplete"]
        assert told["output"][1]["arguments"] == '{"cm'
    kinds = [event["type"] for event in events_in(stream_of(parts, Finish.LENGTH))]
    assert kinds[-2:] == ["response.output_item.done", "response.incomplete"]


def test_log_probabilities_stand_beside_the_text_that_they_are_of() -> None:
    encoder = ResponseEncoder(HEAD, Telling(BOX.offered, logprobs=True), None)
    thought, held, said = (Token(letter.encode(), -1.0) for letter in "thx")
    pieces = [Piece((Thought("t"),), (thought,)), Piece((), (held,)), Piece((Said("hx"),), (said,))]
    events = events_in(encoder.begin() + b"".join(encoder.piece(0, piece) for piece in pieces))
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [token["token"] for token in delta["logprobs"]] == ["h", "x"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ApiError(503, "The server is stopping.", headers={"retry-after": "5"}), "rate_limit_exceeded", "again in 5s."),
        (ApiError(429, "Too many.", headers={"retry-after": "12"}), "rate_limit_exceeded", "again in 12s."),
        (ApiError(400, "Too long.", code="context_length_exceeded"), "context_length_exceeded", "Too long."),
        (ApiError(500, "It broke."), "server_error", "It broke."),
    ],
)
def test_a_stream_that_breaks_off_says_why(error: ApiError, code: str, words: str) -> None:
    encoder = ResponseEncoder(HEAD, Telling(BOX.offered), None)
    stream = encoder.begin() + encoder.piece(0, Piece((Said("Hel"),))) + encoder.failed(error)
    last = events_in(stream)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == code
    assert last["response"]["error"]["message"].endswith(words)
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_what_responses_have_no_place_for_is_named() -> None:
    encoder = ResponseEncoder(HEAD, Telling(BOX.offered), None)
    with pytest.raises(ApiError, match="a file of the type image/png"):
        encoder.piece(0, Piece((Media("image/png", b""),)))


@pytest.mark.parametrize("text", [PATCH, "", "\ud83d\ude00" * 3, 'a"b\\', "\x00\x1f\u2028"])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_custom_tools_text_may_be_cut_anywhere(text: str, ascii_only: bool, size: int) -> None:
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    written, reader = json.dumps({"input": text}, ensure_ascii=ascii_only), InputReader()
    pieces = [reader.push(written[at : at + size]) for at in range(0, len(written), size)]
    assert "".join(pieces) == text == reader.text
    assert reader.finish() == ""


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('{"other": 1, "input": "x"}', "x"),
        ('{"other": 1}', '{"other": 1}'),
        ("", ""),
        ('{"input": 3}', '{"input": 3}'),
        (r'{"input": "a\qb"}', r"a\qb"),
        (r'{"input": "\ud83d!"}', "\ufffd!"),
        ('{"input": "cut of', "cut of"),
    ],
)
def test_an_object_that_is_no_plain_input_loses_nothing(written: str, text: str) -> None:
    reader = InputReader()
    reader.push(written)
    reader.finish()
    assert reader.text == text


def test_thoughts_travel_with_a_client_that_cannot_read_them() -> None:
    (item,) = whole_of([Thought("naïve 😀")], summary=True, encrypted=True)["output"]
    assert "na" not in item["encrypted_content"]
    assert carried_in(item["encrypted_content"]) == "naïve 😀"
    for foreign in ("gAAAAABo", carried("x")[:-1] + "!", "mlxrun1:////", "mlxrun2:eA=="):
        assert carried_in(foreign) is None


def test_what_an_assistant_did_in_a_row_is_one_turn() -> None:
    reader = ItemReader("Be brief.")
    items: list[Json] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": carried("hm")},
        {"type": "function_call", "call_id": "1", "name": "shell", "arguments": '{"cmd":"ls"}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "custom_tool_call", "call_id": "2", "name": "apply_patch", "input": 'say "x"'},
        {"type": "function_call_output", "call_id": "1", "output": "file"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "done"}]},
    ]
    for index, item in enumerate(items):
        reader.add(item, f"input[{index}]")
    system, user, assistant, one, two = reader.finish()
    assert (system.text, user.text) == ("Be brief.", "a\nb")
    assert (assistant.thoughts, assistant.text) == ("hm", "I look.")
    assert [(call.id, call.arguments) for call in assistant.calls] == [
        ("1", '{"cmd":"ls"}'),
        ("2", '{"input": "say \\"x\\""}'),
    ]
    assert [(turn.answers, turn.name, turn.text) for turn in (one, two)] == [
        ("1", "shell", "file"),
        ("2", "apply_patch", "done"),
    ]
