"""What answers may be where tools may be called: the words of an entry are let through, anything else is not."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from letters import Letters
from llguidance import LLMatcher, LLParserLimits

from mlxrun.core import Constraint, RequestError, Shape, TokenVocabulary
from mlxrun.engine.constraint import fitted_to, tokenizer_of
from mlxrun.text.lark import MarkerTokens
from mlxrun.text.tool_formats import (
    FORMATS,
    BareArgs,
    CallPlace,
    Ids,
    JsonArgs,
    JsonHead,
    PythonArgs,
    RecipientHead,
    ToolFormat,
)
from mlxrun.text.tool_grammar import ToolWords, grammar, left_out, texts_of
from mlxrun.text.tool_render import written
from mlxrun.turns import Call, Calling, Tool, ToolChoice

THINK, END = ("<think>", "</think>"), "<end>"
PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "unit": {"enum": ["c", "f"]},
    "when": {"type": ["string", "null"]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "deep": {"type": "object", "properties": {"x": {"type": "number"}}},
    "ok": {"type": "boolean"},
}
TOOLS = (
    Tool("weather", parameters={"type": "object", "properties": PROPERTIES, "required": ["city"]}),
    Tool("now"),
    Tool("free", parameters={}),
)
GIVEN = {"city": 'Bern "x"', "days": 3, "unit": "c", "tags": ["a", "b"], "ok": True}
CALLS = (
    Call("zq1234567", "weather", json.dumps(GIVEN)),
    Call("zq1234568", "now", "{}"),
    Call("zq1234569", "weather", '{"city": "Rome"}'),
)
AUTO, NONE, REQUIRED = map(ToolChoice, (Calling.AUTO, Calling.NONE, Calling.REQUIRED))
CASES = [form for form in FORMATS if not isinstance(form.head, RecipientHead)]


class Case:
    """One format with its markers as tokens of their own, or as letters."""

    def __init__(self, form: ToolFormat, *, tokens: bool, controls: Sequence[str] = ()) -> None:
        found = {text for one in texts_of(form) for text in re.findall(r"<[^<>{}\s=]+>|\[[A-Z_]+\]", one)}
        self.tokenizer = Letters(tuple(sorted(found)) if tokens else (), (*controls, *THINK, END))
        self.end = 256 + len(self.tokenizer.added) - 1
        markers = MarkerTokens(self.tokenizer, self.tokenizer.added)
        self.words = ToolWords(markers, form, tuple(markers.ids[text] for text in THINK))
        self._vocabulary = TokenVocabulary(
            tokens=tuple(self.tokenizer.token_bytes(i) for i in range(self.tokenizer.vocab_size)),
            special=frozenset(markers.ids.values()),
            ends=frozenset({self.end}),
            encode=lambda text: self.tokenizer.encode(text, special=False),
        )
        self.form = form

    def calls(self, count: int = 3, name: str | None = None) -> str:
        calls = [replace(call, name=name or call.name) for call in CALLS[:count]]
        if self.form.ids is Ids.COUNTED:
            calls = [replace(call, id=f"functions.{call.name}:{at}") for at, call in enumerate(calls)]
        return written(self.form, calls)

    def matcher(self, choice: ToolChoice, shape: Constraint | None = None, tools: Sequence[Tool] = TOOLS) -> LLMatcher:
        held = grammar(self.words, tools, choice, shape)
        assert held is not None
        found = LLMatcher(
            tokenizer_of(fitted_to(self._vocabulary, self.tokenizer.vocab_size)),
            LLMatcher.grammar_from_lark(held.text),
            log_level=0,
            limits=LLParserLimits(verbose_errors=False),
        )
        assert not found.is_error(), found.get_error()
        return found

    def takes(
        self, choice: ToolChoice, text: str, shape: Constraint | None = None, tools: Sequence[Tool] = TOOLS
    ) -> bool | None:
        """Whether this may be the whole answer; None: only its beginning."""
        matcher = self.matcher(choice, shape, tools)
        for token in self.tokenizer.encode(text, special=True):
            if matcher.is_stopped() or not allowed(matcher, token):
                return False
            assert matcher.consume_tokens([token])
        return True if matcher.is_stopped() or allowed(matcher, self.end) else None


def allowed(matcher: LLMatcher, token: int) -> bool:
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint32)
    return bool(bits[token // 32] >> (token % 32) & 1)


def cases(forms: Sequence[ToolFormat] = CASES) -> pytest.MarkDecorator:
    made = [pytest.param(Case(form, tokens=how), id=f"{form.id}-{how}") for form in forms for how in (True, False)]
    return pytest.mark.parametrize("case", made)


@cases()
def test_calls_are_all_that_may_come_where_they_are_required(case: Case) -> None:
    several = not case.form.one_per_turn or None
    assert case.takes(REQUIRED, case.calls(1))
    assert bool(case.takes(REQUIRED, case.calls(3))) is bool(several)
    assert case.takes(REQUIRED, case.calls(1, "wether")) is False
    assert case.takes(REQUIRED, "Hm") is False
    assert case.takes(replace(REQUIRED, parallel=False), case.calls(1))
    assert case.takes(replace(REQUIRED, parallel=False), case.calls(3)) is False


@cases([form for form in CASES if form.section is None and form.between == "\n"])
def test_a_line_may_end_behind_the_last_required_call(case: Case) -> None:
    """Else a model that ends its lines so would have to call again and again."""
    for choice in (REQUIRED, replace(REQUIRED, parallel=False)):
        assert case.takes(choice, case.calls(1) + "\n")
        assert case.takes(choice, case.calls(1) + "\nHm") is False


@cases()
def test_text_is_free_and_a_call_is_held_once_it_has_begun(case: Case) -> None:
    start = case.form.place is CallPlace.START
    before = "" if start else "Hm, <think>a</think> let [me] <see>: "
    assert case.takes(AUTO, "just text, <b>\n")
    assert case.takes(AUTO, before + case.calls(1))
    assert case.takes(AUTO, before + case.calls(1, "wether")) is start
    assert case.takes(replace(AUTO, parallel=False), before + case.calls(1))
    assert case.takes(replace(AUTO, parallel=False), before + case.calls(3)) is False


@cases()
def test_no_call_begins_where_none_may(case: Case) -> None:
    assert case.takes(NONE, "just text, <b>\n")
    assert case.takes(NONE, case.calls(1)) is False


@cases(CASES[:1])
def test_an_answer_is_a_call_or_what_was_asked_for(case: Case) -> None:
    shape = Constraint(Shape.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"type": "integer"}}}')
    assert case.takes(AUTO, case.calls(1), shape)
    assert case.takes(AUTO, '{"a": 1}', shape)
    assert case.takes(AUTO, "text", shape) is False


def test_words_that_nobody_is_held_to_are_told() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True, "items": {"format": "zip"}}}}
    tool = Tool("t", parameters=schema)
    where = "tools.t.parameters.properties.a"
    assert left_out([tool], None) == (f"{where}.uniqueItems", f"{where}.items.format")
    with pytest.raises(RequestError, match=r"uniqueItems cannot be held to"):
        left_out([replace(tool, strict=True)], None)
    assert left_out(TOOLS, None) == ()
    long = Tool("t", parameters={"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}})
    told = {form.id: left_out([long], form) for form in FORMATS}
    assert (told["hermes"], told["qwen3-coder"], told["gemma4"]) == (
        (),
        (f"{where}.maxLength",),
        (f"{where}.maxLength",),
    )


@cases(CASES[:1])
def test_what_is_no_schema_bars_nothing(case: Case) -> None:
    odd = {
        "type": "object",
        "properties": {
            "a": {"type": "any", "required": True, "enum": [], "minimum": "x"},
            "b": {"pattern": "(?=x)y", "type": "string"},
            "c": {"$ref": "#/properties/a"},
            "d": {"pattern": "(", "format": "int32"},
        },
        "required": ["a", "elsewhere"],
    }
    tool = Tool("t", parameters=odd)
    call = written(case.form, [Call("1", "t", '{"a": 1, "b": "z", "c": null, "d": "", "elsewhere": 2}')])
    assert case.takes(REQUIRED, call, tools=[tool])
    assert len(left_out([tool], case.form)) == 8


PATCH = Tool("patch", input=Constraint(Shape.LARK, 'start: "+" LINE\nLINE: /[a-z]+/'), custom=True)


@cases([form for form in CASES if form.id == "qwen3-coder"])
def test_a_custom_tools_text_is_held_to_its_grammar_where_texts_are_raw(case: Case) -> None:
    good, bad = (written(case.form, [Call("1", "patch", json.dumps({"input": text}))]) for text in ("+ab", "-ab"))
    assert case.takes(REQUIRED, good, tools=[PATCH])
    assert case.takes(REQUIRED, bad, tools=[PATCH]) is False
    assert left_out([PATCH], case.form) == ()


EDIT = Tool(
    "edit",
    input=Constraint(Shape.LARK, 'start: "*** \\"Edit\\"" LF line+\nline: ("+" | "-") /(.*)/ LF\n%import common.LF'),
    custom=True,
)


@cases([form for form in CASES if isinstance(form.args, JsonArgs) or isinstance(form.head, JsonHead)])
def test_a_custom_tools_text_is_held_to_its_grammar_within_json(case: Case) -> None:
    texts = ('*** "Edit"\n+a "b" \\n é\t/\n-\n', '*** "Edit"\na\n', '*** "Edit"', "*** Edit\n+a\n")
    for text, good in zip(texts, (True, False, False, False), strict=True):
        id = "functions.edit:0" if case.form.ids is Ids.COUNTED else "call12345"
        call = written(case.form, [Call(id, "edit", json.dumps({"input": text}, ensure_ascii=False))])
        assert case.takes(REQUIRED, call, tools=[EDIT]) is good, text
    assert left_out([EDIT], case.form) == ()


@cases([form for form in CASES if isinstance(form.args, BareArgs | PythonArgs) and not isinstance(form.head, JsonHead)])
def test_elsewhere_it_is_not_and_that_is_told(case: Case) -> None:
    assert left_out([EDIT], case.form) == ("tools.edit.format",)
    for text in ('start: "a" %json {}', 'start: "\\n"i', "start: /a(?=b)/", f"start: /{'(' * 5000}a{')' * 5000}/"):
        odd = replace(EDIT, input=Constraint(Shape.LARK, text))
        assert left_out([odd], CASES[0]) == ("tools.edit.format",)


MARKS = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>")
FINAL, NEXT = "<|channel|>final<|message|>", "<|end|><|start|>assistant"


@pytest.mark.parametrize("name", ["weather", "wether"])
def test_messages_to_tools_are_held(name: str) -> None:
    case = Case(next(form for form in FORMATS if form.id == "harmony"), tokens=True, controls=MARKS)
    call = case.calls(1, name).removesuffix("<|call|>")
    thought = "<|channel|>analysis<|message|>Hm, \n<b>" + NEXT
    known = name == "weather"
    for choice in (AUTO, REQUIRED):
        assert bool(case.takes(choice, call)) is known
        assert bool(case.takes(choice, thought + thought + call)) is known
    assert bool(case.takes(AUTO, "<|channel|>commentary<|message|>I look." + NEXT + call)) is known
    assert not case.takes(NONE, thought + call)
    assert case.takes(AUTO, thought + FINAL + "Yes.")
    assert not case.takes(REQUIRED, thought + FINAL + "Yes.")
    shape = Constraint(Shape.REGEX, "[0-9]+")
    assert case.takes(AUTO, thought + FINAL + "12", shape)
    assert not case.takes(AUTO, thought + FINAL + "no", shape)
