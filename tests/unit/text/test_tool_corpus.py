"""What every template writes is read as the calls that it was given, however its tokens are cut.

The quick part runs always; `make tool-corpus` asks for all of it: 200 answers a template, every cut, long values.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from letters import Letters
from tool_corpus import BY_ID, Call, Written, calls_in, read, said_in, sizes, tokenizers, written
from written_calls import sources

from mlxrun.text.tool_formats import BareArgs, TaggedArgs, ToolFormat

ALL = os.environ.get("MLXRUN_TEST_ALL") == "1"
NAMES = sorted(sources())
SINGLE = ("gigachat3", "gigachat3.1", "harmony")  # one call a turn
TEXTS = (
    *("", " ", "\n", "\n\n", "a\nb\n", "\nx", "x\r\ny", "\"q' `", "\\", "\\n\\", "'", '"', " 5 ", "null", "true", "12"),
    *('{"a": 1}', "[1]", "</parameter>", "<think>", "</think>", ")", "]", "}", ", b=1", "```", "</"),
    "é漢🙂\u2028\x00\x1b\x7f",
)  # fmt: skip
VALUES = (
    *(1, -0.5, 1e-7, 10**20, True, False, None, [], {}, [[], {}], {"a": {"b": [1, None, "x\n\"'", True, {"c": {}}]}}),
    *(["a'b", 'c"d', "e\\f\n", "null"], {"k": "é", "l": "</tool_call>"}),
)


def own_texts(form: ToolFormat) -> list[str]:
    """The format's own markers, as values."""
    args = [getattr(form.args, name, "") for name in ("close", "quote")]
    found = [text for text in (*form.call, form.tail, *(form.section or ()), *args) if text and text.strip()]
    return [*dict.fromkeys(found), "\n".join(found), "a" + "".join(reversed(found)) + "b"]


def unsayable(form: ToolFormat, tokenizer: Letters, value: Any) -> str | None:
    """Why a format cannot say that value, however well its template writes it."""
    if isinstance(form.args, BareArgs) and form.args.quote in str(value) and form.args.quote not in tokenizer.added:
        return "the quote has no escape"
    if isinstance(form.args, TaggedArgs) and isinstance(value, str):
        _, closed, rest = value.partition(form.args.close.strip())
        after = (form.args.open.partition("{")[0], form.tail, form.call[1] or "", (form.section or ("", ""))[1])
        if closed and any(rest.strip().startswith(text.strip()) for text in after if text):
            return "a raw text cannot hold what ends a parameter and what comes behind one, in that order"
    return None


def calls_for(form: ToolFormat, tokenizer: Letters) -> list[list[Call]]:
    """Every value once, several in a call; no arguments at all; two calls."""
    values = [v for v in (*own_texts(form), *TEXTS, *VALUES) if unsayable(form, tokenizer, v) is None]
    step = 12
    lists = [[("get", {f"v{at}": v for at, v in enumerate(values[i : i + step])})] for i in range(0, len(values), step)]
    more = [("get", {"a": "x"}), ("set", {}), ("get_more", {"a": "y", "n": 2})]
    return [*lists, [("set", {})], more[:1] if form.id in SINGLE else more]


def wanted(one: Written) -> list[tuple[str, dict[str, Any], bool]]:
    return [(name, arguments, True) for name, arguments in one.calls]


def parsed(parts: list[Any]) -> list[tuple[str, Any, bool]]:
    return [(name, json.loads(told), ended) for name, told, ended in calls_in(parts)]


def answers(name: str) -> Iterator[Written]:
    form = BY_ID[sources()[name][0]]
    for tokenizer in tokenizers(form):
        for calls in calls_for(form, tokenizer):
            one = written(name, calls, tokenizer)
            assert one is not None, "the template refuses these calls"
            yield one


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_what_was_called(name: str) -> None:
    for seed, one in enumerate(answers(name)):
        whole = read(one, repeat(len(one.ids)))
        assert parsed(whole) == wanted(one)
        assert said_in(whole).startswith("I call it." if one.said else "")
        assert read(one, repeat(1) if seed % 2 else sizes(seed, 8)) == whole
        assert not ALL or read(one, sizes(seed, 8)) == read(one, repeat(1)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_cut_at_any_place(name: str) -> None:
    """What was told before stays true, nothing is told that the whole does not tell, and no half call is ended."""
    form = BY_ID[sources()[name][0]]
    calls: list[Call] = [("get", {"a": "x\n", "b": [1, {"c": "y"}], "d": 2.5}), ("set", {})]
    one = written(name, calls[:1] if form.id in SINGLE else calls, tokenizers(form)[-1])
    assert one is not None
    parts = read(one, repeat(len(one.ids)))
    whole = calls_in(parts)
    places = range(len(one.ids)) if ALL else random.Random(name).sample(range(len(one.ids)), 12)
    for place in places:
        cut = Written(one.template, one.form, one.tokenizer, one.ids[:place], one.calls, one.tools, one.said)
        found = calls_in(read(cut, sizes(place, 8)))
        for (name_, told, ended), (name_too, all_told, _) in zip(found, whole, strict=False):
            assert name_ == name_too
            assert all_told.startswith(told)
            assert not ended or told == all_told
        assert read(one, chain((place or 1,), repeat(len(one.ids)))) == parts


@pytest.mark.parametrize(
    "name", ["Qwen-Qwen3-0.6B", "Qwen3-Coder", "LFM2", "google-gemma-4-31B-it", "openai-gpt-oss-120b"]
)
def test_a_long_value(name: str) -> None:
    form = BY_ID[sources()[name][0]]
    text = 'line "one"\n\t<tag> é\\ ' * (5000 if ALL else 500)
    one = written(name, [("get", {"a": text})], tokenizers(form)[-1])
    assert one is not None
    whole = read(one, repeat(len(one.ids)))
    assert parsed(whole) == wanted(one)
    assert read(one, sizes(1, 64)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_many_answers(name: str) -> None:
    form = BY_ID[sources()[name][0]]
    for seed in range(200 if ALL else 1):
        drawn = random.Random(f"{name}{seed}")
        tokenizer = drawn.choice(tokenizers(form))
        pool = [v for v in (*own_texts(form), *TEXTS, *VALUES) if unsayable(form, tokenizer, v) is None]
        count = 1 if form.id in SINGLE else drawn.randint(1, 4)
        calls = [(f"f{at}", {f"p{i}": drawn.choice(pool) for i in range(drawn.randint(0, 5))}) for at in range(count)]
        one = written(name, calls, tokenizer)
        assert one is not None
        whole = read(one, repeat(len(one.ids)))
        assert parsed(whole) == wanted(one)
        assert read(one, repeat(1)) == whole
        assert read(one, sizes(seed, 8)) == whole
