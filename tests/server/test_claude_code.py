"""Claude Code's first requests as it sent them, and what follows on them, which is written by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from .scripted import ScriptedEngine, ask, server
from .test_anthropic import told

RECORDED = json.loads((Path(__file__).parent / "recorded" / "claude-code-2.1.197.json").read_text())
(REQUEST,) = [request for request in RECORDED["requests"] if request["method"] == "POST"]
HEADERS = {name: value for name, value in REQUEST["headers"].items() if name.startswith(("anthropic", "x-app", "X-"))}


def sent(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REQUEST["body"]), "model": "scripted", **fields}


def engine() -> ScriptedEngine:
    return ScriptedEngine("<think>Hm.</think>Hello", context=200_000)


def prompt_of(own: ScriptedEngine) -> str:
    return bytes(own.asked[-1].tokens).decode()


def test_it_first_looks_whether_anybody_is_there() -> None:
    own, _ = server(engine())
    assert ask(own, "/", method="HEAD").status_code == 200


def test_the_first_request_is_answered_in_events() -> None:
    own, engine_ = server(engine())
    response = ask(own, REQUEST["path"], sent(), headers=HEADERS)
    assert response.status_code == 200
    assert "x-mlxrun-left-out" not in response.headers
    events = told(response.text)
    assert events[0]["type"] == "message_start"
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == ["thinking", "text"]
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert engine_.asked[-1].max_tokens == 32000


def test_what_is_new_each_time_is_not_in_the_prompt() -> None:
    own, engine_ = server(engine())
    ask(own, REQUEST["path"], sent())
    first = prompt_of(engine_)
    assert "billing" not in first
    body = sent()
    body["system"][0]["text"] = "x-anthropic-billing-header: cc_version=2; cch=another"
    body["metadata"] = {"user_id": "another"}
    ask(own, REQUEST["path"], body)
    assert prompt_of(engine_) == first


def test_a_round_of_tools_goes_on_from_what_is_cached() -> None:
    own, engine_ = server(engine())
    body = sent()
    ask(own, REQUEST["path"], body)
    first = prompt_of(engine_).removesuffix("<think>")  # which opens the answer
    body["messages"] += [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "mlxrun1."},
                {"type": "text", "text": "I look at it."},
                {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"file_path": "/a"}},
                {"type": "tool_use", "id": "call_2", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "1\tone"},
                {
                    "type": "tool_result",
                    "tool_use_id": "call_2",
                    "is_error": True,
                    "content": "Exit code 1",
                    "cache_control": {"type": "ephemeral"},
                },
                {"type": "text", "text": "<system-reminder>\nGo on.\n</system-reminder>"},
            ],
        },
    ]
    response = ask(own, REQUEST["path"], body)
    assert response.status_code == 200
    assert prompt_of(engine_).startswith(first.removesuffix("<think>"))
    counted = {key: value for key, value in body.items() if key not in ("max_tokens", "stream", "metadata")}
    usage = told(response.text)[-2]["usage"]
    count = ask(own, "/v1/messages/count_tokens?beta=true", counted).json()["input_tokens"]
    assert count == usage["input_tokens"] + usage["cache_read_input_tokens"] == len(engine_.asked[-1].tokens)


@pytest.mark.parametrize("text", ["quota", "count"])
def test_its_probes(text: str) -> None:
    own, _ = server(engine())
    body = {
        "model": "scripted",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"user_id": "..."},
    }
    message = ask(own, REQUEST["path"], body).json()
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 1)


def test_a_search_on_anthropics_machines_is_refused_and_one_beside_other_tools_left_out() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    own, _ = server(engine())
    assert ask(own, REQUEST["path"], sent(tools=[search])).status_code == 400
    beside = ask(own, REQUEST["path"], sent(tools=[*REQUEST["body"]["tools"], search]))
    assert (beside.status_code, beside.headers["x-mlxrun-left-out"]) == (200, "tools[24]: web_search")


def test_it_makes_its_conversation_shorter_where_it_is_too_long() -> None:
    own, _ = server(ScriptedEngine(context=100))
    message = ask(own, REQUEST["path"], sent()).json()["error"]["message"]
    assert message.startswith("prompt is too long: ")
    assert message.endswith(" tokens > 99 maximum")
