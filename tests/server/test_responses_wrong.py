"""Every value of a rich request made wrong in every way: each is answered in a sentence, and none is our fault."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from .scripted import ScriptedEngine, ask, error_of, server
from .test_codex import APPLY_PATCH, TEMPLATE
from .test_responses import PATH

CALL = {"call_id": "c", "name": "close", "namespace": "ns"}
RICH: dict[str, Any] = {
    "model": "scripted",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
        {"type": "function_call", "id": "fc", "arguments": "{}", **CALL},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
        {"type": "custom_tool_call", "call_id": "d", "name": "apply_patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "o"},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "more"}]},
        {"type": "item_reference", "id": "rs"},
        {"role": "developer", "content": "Go on."},
    ],
    "tools": [
        {"type": "function", "name": "f", "description": "d", "strict": False, "parameters": {"type": "object"}},
        APPLY_PATCH,
        {"type": "namespace", "name": "ns", "description": "", "tools": [{"type": "function", "name": "close"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "max_output_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_logprobs": 1,
    "store": True,
    "stream": False,
    "truncation": "auto",
}
WRONG: tuple[Any, ...] = (None, True, 3, -1, 1.5, "", "x", [], [3], ["x"], [[]], {}, {"type": "x"}, {"type": 3}, 10**30)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*path, key))


def changed(path: tuple[Any, ...], wrong: Any) -> dict[str, Any]:
    body = copy.deepcopy(RICH)
    *above, last = path
    place: Any = body
    for key in above:
        place = place[key]
    place[last] = wrong
    return body


def test_wrong_values_are_told() -> None:
    """A third of them, in turn: together all kinds of wrong, at every place."""
    own, _ = server(ScriptedEngine(context=100_000), TEMPLATE)
    assert ask(own, PATH, RICH).status_code == 200
    for turn, path in enumerate(places(RICH)):
        for wrong in WRONG[turn % 3 :: 3]:
            answer = ask(own, PATH, changed(path, wrong))
            assert answer.status_code in (200, 400, 404), (path, wrong, answer.text)
            if answer.status_code != 200:
                error_of(answer)
    assert ask(own, PATH, RICH).status_code == 200
