"""Calls of tools in what a model writes: the same however the tokens were cut, and nothing that was written is lost."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from letters import Letters

from mlxrun.parts import AnswerPart, Arguments, CallBegun, CallEnded, Said, Thought, merged
from mlxrun.text.items import Hidden
from mlxrun.text.reasoning_formats import FORMATS as REASONING
from mlxrun.text.reasoning_formats import THINK, ReasoningFormat
from mlxrun.text.router import PartRouter
from mlxrun.text.stops import StopParts
from mlxrun.text.tool_formats import FORMATS, ToolFormat
from mlxrun.turns import Tool

BY_ID = {form.id: form for form in FORMATS}
TEXTS = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOLS = (Tool("get", parameters=TEXTS), Tool("get_more", parameters=TEXTS))
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
MADE = re.compile("call_[0-9a-f]{24}|[0-9a-f]{9}")
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
    return tuple(replace(p, id="made") if isinstance(p, CallBegun) and MADE.fullmatch(p.id) else p for p in found)


def read(text: str, name: str = "hermes", tokenizer: Letters = AS_TEXT, **more: object) -> tuple[AnswerPart, ...]:
    ids = tokenizer.encode(text, special=True)
    whole = parts_of(tokenizer, ids, BY_ID[name], len(ids) or 1, **more)  # type: ignore[arg-type] # handed on
    for size in (1, 2, 7):
        assert parts_of(tokenizer, ids, BY_ID[name], size, **more) == whole  # type: ignore[arg-type] # handed on
    return whole


def call(index: int, name: str, arguments: str) -> tuple[AnswerPart, ...]:
    return CallBegun(index, "made", name), Arguments(index, arguments), CallEnded(index)


def cut(name: str, arguments: str = "") -> tuple[AnswerPart, ...]:
    """A call that broke."""
    return CallBegun(0, "made", name), *([Arguments(0, arguments)] if arguments else [])


def known(id: str) -> tuple[AnswerPart, ...]:
    """A call whose id the model wrote."""
    return CallBegun(0, id, "get"), *call(0, "get", "{}")[1:]


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
        (f"<think>Hm\n{GET}\n</think>c", (Thought("Hm"), *call(0, "get", '{"a": "b"}'), Said("\nc"))),
        (f"<think>Hm\n{GET}<think>x</think>c", (Thought("Hm"), *call(0, "get", '{"a": "b"}'), Thought("x"), Said("c"))),
        (f"<think>say {GET}</think>c", (Thought(f"say {GET}"), Said("c"))),
        (GET.replace("get", "got"), (Said(GET.replace("get", "got")),)),
        (GET.replace('"name"', '"nome"'), (Said(GET.replace('"name"', '"nome"')),)),
        (GET.replace("get", "get_more"), call(0, "get_more", '{"a": "b"}')),
        ('<tool_call>{"arguments":{"b":[1,{}]},"name":"get"}</tool_call>', call(0, "get", '{"b":[1,{}]}')),
        ('<tool_call>{"name":"get"}</tool_call>', call(0, "get", "{}")),
        (GET.replace("}}", "}"), call(0, "get", '{"a": "b"}')),  # whole arguments, whatever is missing behind them
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


FENCED = '```json\n{\n  "name": "get",\n  "arguments": {"a": "b"}\n}\n```'
BARE = '{"name": "get", "arguments": {"a": "b"}}'
OTHER = '```json\n{"name": "my-package", "version": "1"}\n```'


@pytest.mark.parametrize("tokenizer", [AS_TEXT, AS_TOKENS])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (FENCED, call(0, "get", '{"a": "b"}')),
        (f"{FENCED}\nDone", (*call(0, "get", '{"a": "b"}'), Said("\nDone"))),
        (f"It says:\n{FENCED}\nDone", (Said(f"It says:\n{FENCED}\nDone"),)),
        (f"<think>Hm</think>\n{FENCED}", (Thought("Hm"), *call(0, "get", '{"a": "b"}'))),
        (f"{FENCED}\n\n{FENCED}", (*call(0, "get", '{"a": "b"}'), *call(1, "get", '{"a": "b"}'))),
        (f"{FENCED}\n{GET}", (*call(0, "get", '{"a": "b"}'), *call(1, "get", '{"a": "b"}'))),
        (FENCED.removesuffix("\n```"), call(0, "get", '{"a": "b"}')),
        (f"<think>Hm\n{FENCED}\n</think>c", (Thought(f"Hm\n{FENCED}\n"), Said("c"))),
        (BARE, call(0, "get", '{"a": "b"}')),
        (f"{BARE}\nDone", (*call(0, "get", '{"a": "b"}'), Said("\nDone"))),
        (f"It says:\n{BARE}\nDone", (Said(f"It says:\n{BARE}\nDone"),)),
        (f"{BARE}\n{BARE}", (*call(0, "get", '{"a": "b"}'), *call(1, "get", '{"a": "b"}'))),
        (f"I write {BARE}", (Said(f"I write {BARE}"),)),
        (f"<think>Hm\n{BARE}\n</think>c", (Thought(f"Hm\n{BARE}\n"), Said("c"))),
        ('{"name": "other"}\nif (a) {\n  b\n}', (Said('{"name": "other"}\nif (a) {\n  b\n}'),)),
        (OTHER, (Said(OTHER),)),
        (f"{OTHER}\n{FENCED}", (Said(f"{OTHER}\n{FENCED}"),)),
        ("```json\n[1]\n```", (Said("```json\n[1]\n```"),)),
        ("```python\nprint()\n```", (Said("```python\nprint()\n```"),)),
        ("```", (Said("```"),)),
    ],
)  # fmt: skip
def test_a_code_block_that_holds_a_call_is_one(text: str, wanted: tuple[AnswerPart, ...], tokenizer: Letters) -> None:
    assert read(text, tokenizer=tokenizer) == wanted


def test_letters_of_a_marker_that_is_a_token_stay_text() -> None:
    ids = AS_TOKENS.encode(GET, special=False)
    assert parts_of(AS_TOKENS, ids, BY_ID["hermes"], 3) == (Said(GET),)


def test_without_tools_or_a_format_nothing_is_a_call() -> None:
    assert read(GET, tools=()) == (Said(GET),)
    assert parts_of(AS_TEXT, AS_TEXT.encode(GET, special=True), None, 4) == (Said(GET),)


NUMBERS = (
    Tool("get", parameters={"type": "object", "properties": {"n": {"type": "integer"}, "l": {"type": "array"}}}),
)
ANY = (Tool("get", parameters={"type": "object"}),)
EITHER = (Tool("get", parameters={"properties": {"n": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/n"}]}},
                                  "$defs": {"n": {"type": ["number", "null"]}}}),)  # fmt: skip
CUSTOM = (Tool("get", parameters={}, custom=True),)


def tagged(**values: str) -> str:
    told = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function=get>\n{told}</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("tools", "values", "wanted"),
    [
        (TOOLS, {"a": "12"}, {"a": "12"}),
        (TOOLS, {}, {}),
        (NUMBERS, {"n": "12"}, {"n": 12}),
        (NUMBERS, {"n": "twelve"}, {"n": "twelve"}),  # what it is; the tool will say that it is wrong
        (NUMBERS, {"n": '"12"'}, {"n": "12"}),
        (NUMBERS, {"n": "None"}, {"n": None}),
        (NUMBERS, {"l": "[1, 'a\\n', True]"}, {"l": [1, "a\n", True]}),  # as templates print Python's lists
        (ANY, {"n": "12", "o": '{"a": "b"}', "t": "twelve", "s": '"q"', "b": "{", "e": ""},
         {"n": 12, "o": {"a": "b"}, "t": "twelve", "s": '"q"', "b": "{", "e": ""}),
        (EITHER, {"n": "12"}, {"n": 12}),
        (EITHER, {"n": "true"}, {"n": "true"}),
        (CUSTOM, {"input": "12"}, {"input": "12"}),
    ],
)  # fmt: skip
def test_raw_values_are_what_the_schema_says(tools: tuple[Tool, ...], values: dict[str, str], wanted: object) -> None:
    begun, arguments, ended = read(tagged(**values), "qwen3-coder", tools=tools)
    assert isinstance(arguments, Arguments)
    assert json.loads(arguments.text) == wanted
    assert isinstance(begun, CallBegun)
    assert isinstance(ended, CallEnded)


def told_before(text: str, name: str, tools: Sequence[Tool] = TOOLS) -> str:
    """The arguments that are told while only this much has come."""
    router = PartRouter(AS_TEXT, THINK, "", BY_ID[name], tools)
    return "".join(item.text for item in router.push(list(text.encode())) if isinstance(item, Arguments))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("hermes", '<tool_call>{"name": "get", "arguments": {"a": "some te', '{"a": "some te'),
        ("qwen3-coder", "<tool_call>\n<function=get>\n<parameter=a>\nsome te", '{"a": "some te'),
        ("qwen3-coder", '<tool_call>\n<function=get>\n<parameter=a>\nq"\n</para', '{"a": "q\\"'),
        ("qwen3-coder", "<function=get>\n<parameter=l>\n[1, {", '{"l": [1, {'),
        ("gemma4", '<|tool_call>call:get{a:<|"|>some te', '{"a": "some te'),
        ("lfm2", "<|tool_call_start|>[get(a='some te", '{"a": "some te'),
        ("kimi3", '<|open|>call tool="get" index="1"<|sep|>', ""),
    ],
)
def test_arguments_are_told_while_they_come(name: str, text: str, told: str) -> None:
    assert told_before(text, name, (*TOOLS[1:], *NUMBERS) if "l>" in text else TOOLS) == told


OPENED = '<tool_call>{"name": "get", "arguments": '
COMMAND = '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get", "parameters": {}}]<|END_ACTION|>'
LATE = '<tool_call>{"arguments": {"b": 1}, "name": "nope"}</tool_call>'
DEEP = '{"a": ' + "[" * 300
KIMI = "<|tool_call_begin|>functions.get:7<|tool_call_argument_begin|>{}<|tool_call_end|>"
NONE = "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"
LFM2 = "<|tool_call_start|>[get(a='it's')]<|tool_call_end|>"
OLMO = r'<function_calls>get(a="x\u00e9", b=(1, None))</function_calls>'
THOUGHT = '<think>{"name": "get"}</think>{"name": "get"}'


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("llama3", '{"name": "get", "parameters": {"a": "b"}}', call(0, "get", '{"a": "b"}')),
        ("llama3", '{"title": "get"}', (Said('{"title": "get"}'),)),
        ("llama3", 'So {"name": "get", "parameters": {}}', (Said('So {"name": "get", "parameters": {}}'),)),
        ("llama3", THOUGHT, (Thought('{"name": "get"}'), *call(0, "get", "{}"))),
        ("llama4", "[get(a='b'), nope()]", (*call(0, "get", '{"a": "b"}'), Said(", nope()]"))),
        ("llama4", "[1, 2]", (Said("[1, 2]"),)),
        ("llama4", "[get('b')]", (Said("[get('b')]"),)),
        ("llama4", "[get(a=open('b'))]", (*cut("get", '{"a": '), Said("open('b'))]"))),
        ("hermes", OPENED + '{"a": oops}}', (*cut("get", '{"a": '), Said("oops}}"))),
        ("hermes", OPENED + "[1]}", (*cut("get"), Said("[1]}"))),
        ("hermes", OPENED + '{"a": "x\ny"}}', (*cut("get", '{"a": "x'), Said('\ny"}}'))),
        ("mistral11", "[TOOL_CALLS]get[CALL_ID]abcdefghi[ARGS]{}", known("abcdefghi")),
        ("mistral11", "[TOOL_CALLS]get[CALL_ID]short[ARGS]{}", known("made")),
        ("mistral13", "[TOOL_CALLS]get[ARGS]{}", known("made")),
        (
            "mistral3",
            '[TOOL_CALLS] [{"name": "get", "arguments": {}} ]',
            known("made"),
        ),  # spaces, as version 3 has them
        ("nemotron2", '<TOOLCALL>\n[{"name": "get"}]\n</TOOLCALL>', known("made")),
        ("phi4", "functools are nice [1]", (Said("functools are nice [1]"),)),
        ("kimi2", KIMI, known("functions.get:0")),  # as they are counted, not as the model counts
        ("command", COMMAND, known("0")),
        ("command", COMMAND.replace('"0"', '{"a": 1}'), known("made")),
        ("command", COMMAND.replace('"0"', '"<|START|>"'), known("made")),
        ("deepseek3.1", NONE, (Said(NONE),)),
        ("functionary3.1", '<function=get>{"a": 1}</function> and so', (*call(0, "get", '{"a": 1}'), Said(" and so"))),
        (
            "lfm2",
            LFM2,
            (*cut("get", '{"a": "it"'), Said("s')]<|tool_call_end|>")),
        ),  # as its template writes it: unescaped
        ("hermes", f"{LATE}{GET}", (Said(LATE), *call(0, "get", '{"a": "b"}'))),
        ("hermes", OPENED + DEEP, (*cut("get", DEEP[:206]), Said(DEEP[206:]))),  # deeper than anybody nests
        ("llama4", "[get(a=(1,), b=[2, ], )]", call(0, "get", '{"a": [1], "b": [2]}')),
        ("olmo3", OLMO, call(0, "get", r'{"a": "x\u00e9", "b": [1, null]}')),
    ],
)
def test_formats(name: str, text: str, wanted: tuple[AnswerPart, ...]) -> None:
    assert read(text, name) == wanted


def test_calls_within_thoughts() -> None:
    own = Letters((), ("[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"))
    mistral = next(form for form in REASONING if form.name == "mistral")
    ids = own.encode('[THINK]a[TOOL_CALLS]get[ARGS]{"a": "b"}c[/THINK]d', special=True)
    found = parts_of(own, ids, BY_ID["mistral13"], 1, thoughts=mistral)
    assert [type(part) for part in found] == [Thought, CallBegun, Arguments, CallEnded, Thought, Said]


def test_control_tokens_break_arguments_and_are_never_shown_in_them() -> None:
    own = Letters((), ("<tool_call>", "<|im_end|>", "<|other|>"))
    ids = own.encode('<tool_call>{"name": "get", "arguments": {"a": "b<|other|>c"}}<|im_end|>', special=True)
    found = parts_of(own, ids, BY_ID["hermes"], 1)
    assert found == (CallBegun(0, "made", "get"), Arguments(0, '{"a": "b'), Said('c"}}'))
    ids = own.encode('<tool<|other|>_call>{"name": "get", "arguments": {}}', special=True)
    assert parts_of(own, ids, BY_ID["exaone"], 5) == (Said('<tool_call>{"name": "get", "arguments": {}}'),)


HARMONY_TEXTS = [
    ("<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}<|call|>", "{}"),
    ("<|channel|>analysis to=functions.get code<|message|>{}<|call|>", "{}"),
    (" to=functions.get<|channel|>commentary json<|message|>{}<|call|>", "{}"),
    (" to=functions.get<|channel|>commentary<|message|>{}<|call|>", "{}"),
    ("<|channel|>commentary to=functions.getjson<|message|>{}<|call|>", "{}"),
    ("<|channel|>commentary to=functions.get<|constrain|>json<|message|><|call|>", "{}"),
    ('<|channel|>commentary to=functions.get<|message|>{"a": 1}\n', '{"a": 1}'),
]


@pytest.mark.parametrize(("text", "arguments"), HARMONY_TEXTS)
def test_messages_to_a_tool(text: str, arguments: str) -> None:
    harmony = next(form for form in REASONING if form.name == "harmony")
    own = Letters((), harmony.markers)
    for before, parts in (("", ()), ("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant", (Thought("Hm"),))):
        ids = own.encode(before + text, special=True)
        for size in (1, 3, 100):
            found = parts_of(own, ids, BY_ID["harmony"], size, thoughts=harmony, prompt="<|start|>assistant")
            assert found == (*parts, *call(0, "get", arguments))


def soup(form: ToolFormat, drawn: random.Random) -> str:
    args = [getattr(form.args, name, "") for name in ("open", "close", "quote")]
    head = [getattr(form.head, "text", "")]
    texts = [*form.call, *(form.section or ()), form.tail, form.between, *head, *args, *form.also]
    pieces = [p for text in texts if text for p in (text, text.strip(), text[:-2])]
    filled = [
        p.replace("{name}", "get").replace("{key}", "a").replace("{raw}", "true").replace("{n}", "0") for p in pieces
    ]
    more = [
        "get",
        "a",
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\\",
        "1",
        "é",
        "=",
        "(",
        ")",
        "'",
        '{"name": "get", "',
        "null",
    ]
    own = ['arguments": {', 'parameters": {', "<think>", "</think>", "get_mo", "Hello", "{'a': [1, ", "tool_name"]
    return "".join(drawn.choice([*filled, *more, *own]) for _ in range(drawn.randint(1, 40)))


@pytest.mark.parametrize("name", sorted(BY_ID))
def test_any_soup_is_read_without_an_error_however_it_is_cut(name: str) -> None:
    harmony = next(form for form in REASONING if form.name == "harmony")
    form, thoughts = BY_ID[name], harmony if name == "harmony" else THINK
    added = ("<tool_call>", "</tool_call>", "<think>", "</think>", "｜DSML｜", "<|sep|>", "[ARGS]", '<|"|>')
    for seed in range(15):
        drawn = random.Random(f"{name}{seed}")
        own = (
            drawn.choice([AS_TEXT, Letters(added, ()), Letters((), added)])
            if name != "harmony"
            else Letters((), harmony.markers)
        )
        ids = own.encode(soup(form, drawn), special=True)
        whole: tuple[Any, ...] = parts_of(own, ids, form, len(ids), thoughts=thoughts)
        made = [replace(part, id="") if isinstance(part, CallBegun) else part for part in whole]
        for size in (1, drawn.randint(2, 9)):
            found = parts_of(own, ids, form, size, thoughts=thoughts)
            assert [replace(part, id="") if isinstance(part, CallBegun) else part for part in found] == made
        ends = [part.index for part in whole if isinstance(part, CallEnded)]
        for part in whole:
            if isinstance(part, Arguments) and part.index in ends:
                assert isinstance(json.loads(part.text, strict=True), dict)


@pytest.mark.parametrize("name", sorted(set(BY_ID) - {"harmony"}))
def test_a_text_without_a_call_comes_out_unchanged(name: str) -> None:
    text = 'Use `<tool>` {"title": [1, 2]}, f(x=1) <function> [a](b) \n\n```json\n{"name": "x"}\n```\n call:get{ é \n'
    assert read(text, name) == (Said(text),)


def test_no_two_calls_of_an_answer_have_one_id() -> None:
    one = '{"tool_call_id": "0", "tool_name": "get", "parameters": {}}'
    found = read(f"<|START_ACTION|>[{one}, {one}]<|END_ACTION|>", "command")
    assert [part.id for part in found if isinstance(part, CallBegun)] == ["0", "made"]


@pytest.mark.parametrize(("stop", "said"), [("\n", "Hi Done"), ("name", "Hi Done"), ("i", "H"), ("Done", "Hi ")])
def test_no_stop_string_is_looked_for_in_a_call(stop: str, said: str) -> None:
    router, stops = PartRouter(AS_TEXT, THINK, "", BY_ID["hermes"], TOOLS), StopParts([stop])
    found = [
        part for token in AS_TEXT.encode(f"Hi\n{GET} Done", special=True) for part in stops.push(router.push([token]))
    ]
    assert "".join(part.text for part in found if isinstance(part, Said)) == said
    assert any(isinstance(part, CallEnded) for part in found) == (said != "H")
