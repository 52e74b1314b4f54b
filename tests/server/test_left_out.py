"""What is not known is left out and told, or refused under --strict; what stands for "not set" is not set."""

from __future__ import annotations

from typing import Any

import h11
import pytest

from mlxrun.server import left_out
from mlxrun.server.check import check
from mlxrun.server.errors import ApiError
from mlxrun.server.fields import either, fixed, lists, number, one_of, tagged, text, unset, whole

from .scripted import ask, chat, complete, error_of, server

ITEM = tagged(
    "type",
    fixed("text", type=one_of("text"), text=text()),
    fixed("type", "url", type=one_of("picture"), url=text()),
    untagged="text",
)
SCHEMA = fixed(
    count=unset(whole(minimum=0)),
    share=number(),
    items=either(text(), lists(ITEM)),
    ids=either(lists(whole()), lists(lists(whole()))),
    free={"type": "object"},
)


@pytest.mark.parametrize(
    ("body", "settled", "names"),
    [
        ({"count": 3.0, "share": 3.0}, {"count": 3, "share": 3.0}, ()),
        ({"count": -1}, {"count": None}, ()),
        ({"count": -1.0}, {"count": None}, ()),
        ({"count": -2}, {"count": -2}, ()),
        ({"count": 0.5}, {"count": 0.5}, ()),
        ({"x": 1, "y": None}, {}, ("x", "y")),
        ({"free": {"x": 1}}, {"free": {"x": 1}}, ()),
        ({"ids": [1.0, 2]}, {"ids": [1, 2]}, ()),
        ({"ids": [[1.0], [2]]}, {"ids": [[1], [2]]}, ()),
        (
            {"items": [{"text": "a", "x": 1}, {"type": "picture", "url": "b", "text": "c", "x": 2}]},
            {"items": [{"text": "a"}, {"type": "picture", "url": "b"}]},
            ("items[].x", "items[].text"),
        ),
        ({"items": [{"type": "sound", "x": 1}, "a"]}, {"items": [{"type": "sound", "x": 1}, "a"]}, ()),
    ],
)
def test_a_body_is_settled(body: dict[str, Any], settled: dict[str, Any], names: tuple[str, ...]) -> None:
    assert left_out.settle(body, SCHEMA) == names
    assert repr(body) == repr(settled)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "sound"}, "items[0].type must be one of 'text', 'picture', not 'sound'."),
        ({"type": 3}, "items[0].type must be one of 'text', 'picture', not 3."),
        ({"type": "picture"}, "items[0].url is missing."),
        ({}, "items[0].text is missing."),
        ("text", "items[0] must be an object, not 'text'."),
    ],
)
def test_the_tag_says_what_is_missing(item: Any, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        check({"items": [item]}, SCHEMA)
    assert caught.value.message == message


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_not_known_is_left_out_and_told(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    own, engine = server()
    answer = chat(own, stream=stream, colour="red", stream_options={"x": 1} if stream else None)
    assert answer.status_code == 200
    assert answer.headers[left_out.HEADER] == ("colour, stream_options.x" if stream else "colour")
    assert len(engine.asked) == 1
    assert left_out.HEADER not in chat(own, stream=stream).headers


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    own, _ = server()
    for _ in range(3):
        chat(own, only_here="secret")
    assert [record.message for record in caplog.records] == [
        "left out of requests at /v1/chat/completions: only_here"
    ]  # and never what it said


def test_strict_refuses_it() -> None:
    own, engine = server(strict=True)
    answer = chat(own, colour="red")
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "colour"
    assert "--strict" in error_of(answer)["message"]
    assert not engine.asked


def test_names_are_bounded_and_quoted() -> None:
    own, _ = server()
    answer = chat(own, **{f"{i}\r\nx: {'y' * 200}": 1 for i in range(100)})
    assert answer.status_code == 200
    assert len(answer.headers[left_out.HEADER]) < 40 * 100
    assert "\n" not in answer.headers[left_out.HEADER]


@pytest.mark.parametrize("names", [("",), (" ",), ("a", ""), (" a", "b "), ("é",), ("\x00",)])
def test_any_names_make_a_header(names: tuple[str, ...]) -> None:
    """One that begins or ends with a space is none, and the connection broke."""
    told = left_out.listed(names).encode()
    h11.Response(status_code=200, headers=[(left_out.HEADER, told)])
    assert told.count(b",") == len(names) - 1


def test_minus_one_is_not_set() -> None:
    own, engine = server()
    assert chat(own, max_tokens=-1, seed=-1, top_k=-1).status_code == 200
    assert complete(own, max_tokens=-1).status_code == 200
    first, second = engine.asked
    assert (first.max_tokens, first.sampling.seed, first.sampling.top_k) == (None, None, 0)
    assert second.max_tokens == 16


def test_no_share_at_all_is_greedy() -> None:
    own, engine = server()
    assert chat(own, top_p=0, max_tokens=1.0).status_code == 200
    (asked,) = engine.asked
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.max_tokens) == (0, 1.0, 1)


@pytest.mark.parametrize(
    ("kind", "hosted"),
    [
        ("web_search", True),
        ("web_search_preview", True),
        ("web_search_preview_2025_03_11", True),
        ("web_search_20250305", True),
        ("computer_use_preview", True),
        ("mcp", True),
        ("function", False),
        ("custom", False),
        ("web_searcher", False),
        ("shellfish", False),
    ],
)
def test_hosted_tools(kind: str, hosted: bool) -> None:
    assert left_out.is_hosted(kind) is hosted


def test_an_unknown_field_of_a_wrong_body_is_no_shield() -> None:
    own, _ = server()
    answer = ask(own, "/v1/chat/completions", {"messages": "x", "colour": 1})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "messages")
