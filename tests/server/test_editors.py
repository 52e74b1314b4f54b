"""What programs that look for Ollama ask, in their order: written from their sources, never recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .scripted import ScriptedEngine, ask, server

ASKED = json.loads((Path(__file__).parent / "recorded" / "editors.json").read_text())
PROGRAMS = [name for name in ASKED if name != "never recorded"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_that_a_program_asks_is_answered_and_nothing_of_it_left_out(program: str) -> None:
    own, _ = server(ScriptedEngine('{"a": "b"}', context=5000))
    for request in ASKED[program]:
        body: Any = request.get("body")
        response = ask(own, request["path"], body, method=request["method"])
        assert response.status_code == 200, (request["path"], response.text)
        assert "x-mlxrun-left-out" not in response.headers
        if request["path"] in ("/api/chat", "/api/generate"):
            last = json.loads(response.text.splitlines()[-1])
            assert last["done"]
            assert last["model"] == body["model"]


def test_what_zed_needs_of_a_model() -> None:
    """Without one of these it takes the whole list for broken."""
    own, _ = server()
    (model,) = ask(own, "/api/tags").json()["models"]
    assert isinstance(model["size"], int)
    assert {"name", "modified_at", "digest", "details"} <= set(model)
    assert {"format", "family", "families", "parameter_size", "quantization_level"} <= set(model["details"])
    shown = ask(own, "/api/show", {"model": "scripted"}).json()
    assert "tools" in shown["capabilities"]
    assert "general.architecture" in shown["model_info"]


def test_a_result_that_names_its_tool_alone_follows_its_call() -> None:
    own, engine = server(ScriptedEngine(context=5000))
    ask(own, "/api/chat", ASKED["zed"][-1]["body"])
    prompt = bytes(engine.asked[-1].tokens).decode()
    assert prompt.index('"path": "a.py"') < prompt.index("print(1)")
