"""Anthropic's Messages: what of a body becomes of the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxrun.server.dialects.anthropic_ask import ask_of
from mlxrun.turns import Calling, Role, Thinking

from .scripted import ask, server
from .test_anthropic import PATH, SEARCH, USER, WEATHER, body_of


def test_blocks_become_turns() -> None:
    asked = ask_of(
        {
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: a1"},
                {"type": "text", "text": "Be brief."},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]},
                {"role": "system", "content": "Remember."},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "text", "text": "Look:"},
                        {"type": "tool_use", "id": "a", "name": "read", "input": {"path": "ü"}},
                        {"type": "tool_use", "id": "b", "name": "list", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": "text"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "b",
                            "content": [{"type": "text", "text": "none"}],
                            "is_error": True,
                        },
                        {"type": "text", "text": "Go on."},
                    ],
                },
            ],
        }
    )
    system, user, inline, assistant, first, second, last = asked.turns
    assert (system.role, system.content) == (Role.SYSTEM, ("Be brief.",))
    assert user.content == ("One", "two")
    assert (inline.role, inline.text) == (Role.SYSTEM, "Remember.")
    assert (assistant.thoughts, assistant.text) == ("Hm.", "Look:")
    assert [(call.id, call.name, call.arguments) for call in assistant.calls] == [
        ("a", "read", '{"path": "ü"}'),
        ("b", "list", "{}"),
    ]
    assert (first.role, first.answers, first.name, first.text, first.failed) == (Role.TOOL, "a", "read", "text", False)
    assert (second.answers, second.text, second.failed) == ("b", "none", True)
    assert (last.role, last.text) == (Role.USER, "Go on.")
    assert not asked.continues


def test_documents_and_search_results_are_text() -> None:
    content = [
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "Body"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Inner"}]}},
        {"type": "search_result", "title": "S", "source": "here", "content": [{"type": "text", "text": "Found"}]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    ]
    (turn,) = ask_of({"messages": [{"role": "user", "content": content}]}).turns
    assert turn.text == "T\nBody\nInner\nS\nhere\nFound"
    assert turn.content[-1].data == b"\0\0\0"


def test_an_assistants_message_at_the_end_goes_on() -> None:
    assert ask_of({"messages": [USER, {"role": "assistant", "content": "Well,"}]}).continues


def test_tools_and_how_they_may_be_called() -> None:
    asked = ask_of({"messages": [USER], "tools": [{**WEATHER, "description": "W", "strict": True}, SEARCH]})
    (tool,) = asked.tools
    assert (tool.name, tool.description, tool.strict) == ("weather", "W", True)
    assert tool.parameters == {"type": "object", "properties": {}}
    choices = {
        "auto": (Calling.AUTO, ()),
        "any": (Calling.REQUIRED, ()),
        "tool": (Calling.REQUIRED, ("weather",)),
        "none": (Calling.NONE, ()),
    }
    for kind, (calling, names) in choices.items():
        choice: dict[str, Any] = {"type": kind, **({"name": "weather"} if kind == "tool" else {})}
        got = ask_of({"messages": [USER], "tools": [WEATHER], "tool_choice": choice}).choice
        assert (got.calling, got.names, got.parallel) == (calling, names, kind != "tool")
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    assert not ask_of({"messages": [USER], "tools": [WEATHER], "tool_choice": alone}).choice.parallel


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, Thinking(on=False)),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Thinking(on=False)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, Thinking(effort="high")),
        ({"thinking": {"type": "between_tools"}}, Thinking()),
        ({"output_config": {"effort": "max"}}, Thinking(effort="max")),
        (
            {"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
            Thinking(on=True, budget=1024, demanded=True),
        ),
    ],
)
def test_how_much_may_be_thought(fields: dict[str, Any], wanted: Thinking) -> None:
    assert ask_of({"messages": [USER], **fields}).thinking == wanted


def test_tools_that_run_elsewhere_are_left_out_and_told() -> None:
    own, _ = server()
    for stream in (False, True):
        response = ask(own, PATH, body_of(tools=[WEATHER, SEARCH], stream=stream))
        assert response.headers["x-mlxrun-left-out"] == "tools[1]: web_search"


def test_sampling_and_shape() -> None:
    own, engine = server()
    form = {"type": "json_schema", "schema": {"type": "object"}}
    ask(own, PATH, body_of(temperature=0.5, top_p=0.9, top_k=4, output_config={"format": form}))
    sampling, constraint = engine.asked[-1].sampling, engine.asked[-1].constraint
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 4)
    assert constraint is not None
    assert json.loads(constraint.text) == {"type": "object"}
    ask(own, PATH, body_of(top_p=0, top_k=-1))
    assert (engine.asked[-1].sampling.temperature, engine.asked[-1].sampling.top_k) == (0, 0)
