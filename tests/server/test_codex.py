"""Codex's conversation with the server: its first request as it was recorded, and the turns that follow it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from mlxrun.core import Shape

from .scripted import ScriptedEngine, ask, server
from .test_responses import events_of, prompt_of, prompted

RECORDED = json.loads((Path(__file__).parent / "recorded" / "codex-0.171.json").read_text())
TEMPLATE = (Path(__file__).parents[1] / "data" / "templates" / "Qwen2.5-Coder.jinja").read_text()
FIRST = 'I look.\n<tool_call>\n{"name": "exec_command", "arguments": {"cmd": "cat a.py"}}\n</tool_call>'
PATCH = "*** Begin Patch\n*** Update File: a.py\n@@\n-return a - b\n+return a + b\n*** End Patch\n"
GRAMMAR = r"""
start: "*** Begin Patch" LF hunk+ "*** End Patch" LF?
hunk: "*** Update File: " /(.+)/ LF change+
change: ("@@" | ("+" | "-" | " ") /(.*)/) LF
%import common.LF
"""
APPLY_PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
}
Json = dict[str, Any]


def called(name: str, arguments: Json) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def turn(body: Json, said: str) -> tuple[list[Json], str]:
    """What Codex is told when the model says that, and what the model was asked."""
    own, engine = server(ScriptedEngine(said, context=100_000), TEMPLATE)
    answer = ask(own, RECORDED["path"], body, headers=RECORDED["headers"])
    assert answer.headers["x-mlxrun-left-out"] == "tools: web_search"
    return events_of(answer), prompt_of(engine)


def answered(body: Json, events: list[Json], *outputs: str) -> Json:
    """The next request: nothing is kept by the server, so all that it said comes back, and what was done."""
    last = events[-1]
    assert last["type"] == "response.completed"
    items, calls = last["response"]["output"], [i for i in last["response"]["output"] if i["type"].endswith("_call")]
    assert len(calls) == len(outputs)
    done = [
        {"type": f"{call['type']}_output", "id": f"fco_{index}", "call_id": call["call_id"], "output": output}
        for index, (call, output) in enumerate(zip(calls, outputs, strict=True))
    ]
    return {**body, "input": [*body["input"], *items, *done]}


def test_its_first_request_and_what_follows() -> None:
    events, first = turn(RECORDED["body"], FIRST)
    message, call = events[-1]["response"]["output"]
    assert message["content"][0]["text"].strip() == "I look."
    assert (call["type"], call["name"], json.loads(call["arguments"])) == (
        "function_call",
        "exec_command",
        {"cmd": "cat a.py"},
    )
    body = answered(RECORDED["body"], events, "Output:\nreturn a - b\n")
    events, second = turn(body, "Done.")
    assert second.startswith(first + FIRST), "what was read is read again"
    assert "<tool_response>\nOutput:\nreturn a - b" in second
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]


def test_two_calls_in_one_turn_are_answered_in_their_order() -> None:
    said = "\n".join(called("exec_command", {"cmd": cmd}) for cmd in ("one", "two"))
    events, _ = turn(RECORDED["body"], said)
    assert [item["output_index"] for item in events if item["type"] == "response.output_item.done"] == [0, 1]
    _, prompt = turn(answered(RECORDED["body"], events, "first", "second"), "Done.")
    assert prompt.index('"one"') < prompt.index('"two"') < prompt.index("first") < prompt.index("second")


def test_its_patches_are_a_text_with_a_grammar() -> None:
    body: Json = copy.deepcopy(RECORDED["body"])
    body["tools"].append(APPLY_PATCH)
    (tool,) = [tool for tool in prompted(copy.deepcopy(body)).ask.tools if tool.custom]
    assert tool.input is not None
    assert (tool.name, tool.input.shape, tool.input.text) == ("apply_patch", Shape.LARK, GRAMMAR)
    events, _ = turn(copy.deepcopy(body), called("apply_patch", {"input": PATCH}))
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH
    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", PATCH)
    _, prompt = turn(answered(body, events, "Success."), "Done.")
    assert json.dumps({"input": PATCH}) in prompt
    assert "Success." in prompt


def test_a_tool_of_a_namespace_is_called_by_both_its_names() -> None:
    events, prompt = turn(RECORDED["body"], called("multi_agent_v1__close_agent", {"target": "a"}))
    assert '"name": "multi_agent_v1__close_agent"' in prompt
    (call,) = events[-1]["response"]["output"]
    assert (call["namespace"], call["name"]) == ("multi_agent_v1", "close_agent")
    _, prompt = turn(answered(RECORDED["body"], events, "closed"), "Done.")
    assert called("multi_agent_v1__close_agent", {"target": "a"}) in prompt


def test_it_may_send_what_it_cannot_read() -> None:
    """Thoughts of another server, and of ours."""
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABm"}
    body: Json = {**RECORDED["body"], "input": [foreign, *RECORDED["body"]["input"]]}
    assert turn(body, "Done.")[0][-1]["type"] == "response.completed"


def test_a_prompt_that_is_too_long_is_told_as_it_reads_it() -> None:
    own, _ = server(ScriptedEngine(context=100), TEMPLATE)
    refused = ask(own, RECORDED["path"], RECORDED["body"], headers=RECORDED["headers"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
