"""Calls of tools in what a model writes: the same however the tokens were cut, and nothing that was written is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from letters import Letters

from mlxrun.parts import AnswerPart, Arguments, CallBegun, CallEnded, Said, Thought, merged
from mlxrun.text.items import Hidden
from mlxrun.text.reasoning_formats import THINK, ReasoningFormat
from mlxrun.text.router import PartRouter
from mlxrun.text.tool_formats import FORMATS, ToolFormat
from mlxrun.turns import Tool

BY_ID = {form.id: form for form in FORMATS}
TEXTS = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOLS = (Tool("get", parameters=TEXTS), Tool("get_more", parameters=TEXTS))
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
AS_TEXT, AS_TOKENS = Letters((), ()), Letters(MARKERS, ())


def parts_of(
    tokenizer: Letters,
    ids: Sequence[int],
    form: ToolFormat | None,
    size: int,
    *,
    thoughts: ReasoningFormat | None = THINK,
    prompt: str = "",
    tools: Sequence[Tool] = TOOLS,
) -> tuple[AnswerPart, ...]:
    """Ids of calls that were made are told by their number alone."""
    router = PartRouter(tokenizer, thoughts, prompt, form, tools)
    items = [item for at in range(0, len(ids), size) for item in router.push(ids[at : at + size])] + router.finish()
    found = merged(item for item in items if not isinstance(item, Hidden))
    return tuple(replace(p, id="made") if isinstance(p, CallBegun) and "call_" in p.id else p for p in found)


def read(text: str, name: str = "hermes", tokenizer: Letters = AS_TEXT, **more: object) -> tuple[AnswerPart, ...]:
    ids = tokenizer.encode(text, special=True)
    whole = parts_of(tokenizer, ids, BY_ID[name], len(ids) or 1, **more)  # type: ignore[arg-type] # handed on
    for size in (1, 2, 7):
        assert parts_of(tokenizer, ids, BY_ID[name], size, **more) == whole  # type: ignore[arg-type] # handed on
    return whole


def call(index: int, name: str, arguments: str) -> tuple[AnswerPart, ...]:
    return CallBegun(index, "made", name), Arguments(index, arguments), CallEnded(index)


GET = '<tool_call>\n{"name": "get", "arguments": {"a": "b"}}\n</tool_call>'


@pytest.mark.parametrize("tokenizer", [AS_TEXT, AS_TOKENS])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GET, call(0, "get", '{"a": "b"}')),
        (f"Hi\n{GET}\n{GET}\n", (Said("Hi"), *call(0, "get", '{"a": "b"}'), *call(1, "get", '{"a": "b"}'))),
        (f"{GET} Done", (*call(0, "get", '{"a": "b"}'), Said(" Done"))),
        (f"<think>Hm</think>\n\n{GET}", (Thought("Hm"), *call(0, "get", '{"a": "b"}'))),
        (f"<think>Hm\n{GET}Yes", (Thought("Hm"), *call(0, "get", '{"a": "b"}'), Said("Yes"))),
        (f"{GET}<think>b</think>c", (*call(0, "get", '{"a": "b"}'), Thought("b"), Said("c"))),
        (f"<think>say {GET}</think>c", (Thought(f"say {GET}"), Said("c"))),
        (GET.replace("get", "got"), (Said(GET.replace("get", "got")),)),
        (GET.replace('"name"', '"nome"'), (Said(GET.replace('"name"', '"nome"')),)),
        (GET.replace("get", "get_more"), call(0, "get_more", '{"a": "b"}')),
        ('<tool_call>{"arguments":{"b":[1,{}]},"name":"get"}</tool_call>', call(0, "get", '{"b":[1,{}]}')),
        ('<tool_call>{"name":"get"}</tool_call>', call(0, "get", "{}")),
        ('<tool_call>{"name":"get","arguments":null}</tool_call>', call(0, "get", "{}")),
        (GET.replace("b", "</tool_call>"), call(0, "get", '{"a": "</tool_call>"}')),
        (GET[: -len(chr(34) + "}}\n</tool_call>")], (*call(0, "get", '{"a": "b')[:2],)),
        (f"<tool_call>\n{GET}", (Said("<tool_call>"), *call(0, "get", '{"a": "b"}'))),
        ("<tool_call>", (Said("<tool_call>"),)),
        ("a <tool_ca \n\n", (Said("a <tool_ca \n\n"),)),
        ("", ()),
    ],
)  # fmt: skip
def test_json_between_markers(text: str, wanted: tuple[AnswerPart, ...], tokenizer: Letters) -> None:
    assert read(text, tokenizer=tokenizer) == wanted


def test_letters_of_a_marker_that_is_a_token_stay_text() -> None:
    ids = AS_TOKENS.encode(GET, special=False)
    assert parts_of(AS_TOKENS, ids, BY_ID["hermes"], 3) == (Said(GET),)


def test_without_tools_or_a_format_nothing_is_a_call() -> None:
    assert read(GET, tools=()) == (Said(GET),)
    assert parts_of(AS_TEXT, AS_TEXT.encode(GET, special=True), None, 4) == (Said(GET),)
