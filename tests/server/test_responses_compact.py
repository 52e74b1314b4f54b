"""/v1/responses/compact: what comes back is sent again, and the model then knows the summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxrun.server.dialects.responses_compact import SUM_UP
from mlxrun.server.dialects.responses_items import SUMMED_UP, carried

from .scripted import ScriptedEngine, ask, error_of, server
from .test_responses import PATH

COMPACT = f"{PATH}/compact"
TEMPLATE = (Path(__file__).parents[1] / "data" / "templates" / "Qwen2.5-Coder.jinja").read_text(encoding="utf-8")
USER: dict[str, Any] = {"role": "user", "content": "Mend calc.py."}
ITEMS: list[dict[str, Any]] = [
    USER,
    {"type": "function_call", "call_id": "c1", "name": "read", "arguments": '{"path": "calc.py"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "return a - b"},
    {"role": "assistant", "content": "It subtracts."},
]


def prompt_of(engine: ScriptedEngine, place: int = -1) -> str:
    return bytes(token for token in engine.asked[place].tokens if token < 256).decode()


def test_it_is_summed_up_and_gone_on_from() -> None:
    own, engine = server(ScriptedEngine("calc.py subtracts; mend it.", context=20_000), TEMPLATE)
    told = ask(own, COMPACT, {"model": "scripted", "input": ITEMS}).json()
    assert "return a - b" in prompt_of(engine)
    assert prompt_of(engine).count(SUM_UP) == 1
    kept = told["output"]
    assert [item["type"] for item in kept] == ["message", "compaction"]
    assert kept[0]["content"] == [{"type": "input_text", "text": "Mend calc.py."}]
    assert told["usage"]["output_tokens"] > 0
    again = ask(own, PATH, {"input": [*kept, {"role": "user", "content": "Go on."}]})
    assert again.status_code == 200
    prompt = prompt_of(engine)
    assert f"{SUMMED_UP}\ncalc.py subtracts; mend it." in prompt
    assert prompt.index("Mend calc.py.") < prompt.index(SUMMED_UP) < prompt.index("Go on.")
    assert "return a - b" not in prompt


def test_a_kept_conversation_is_summed_up() -> None:
    own, engine = server(ScriptedEngine("Hello", context=20_000), TEMPLATE)
    first = ask(own, PATH, {"input": "My name is Alice."}).json()
    told = ask(own, COMPACT, {"model": "scripted", "previous_response_id": first["id"], "input": [USER]}).json()
    assert [item["content"][0]["text"] for item in told["output"][:-1]] == ["My name is Alice.", "Mend calc.py."]
    assert "Alice" in prompt_of(engine)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [USER]}, "model"),
        ({"model": "scripted"}, "input"),
        (
            {"model": "scripted", "input": [{"type": "compaction", "encrypted_content": "else"}]},
            "input[0].encrypted_content",
        ),
    ],
)
def test_bad_bodies(fields: Any, param: str) -> None:
    own, engine = server()
    refused = ask(own, COMPACT, fields)
    assert (refused.status_code, error_of(refused)["param"], engine.asked) == (400, param, [])


def test_a_summary_that_is_not_there() -> None:
    own, _ = server(ScriptedEngine(" \n", context=20_000), TEMPLATE)
    assert ask(own, COMPACT, {"model": "scripted", "input": [USER]}).status_code == 500
    assert carried("a") != "a"
