"""Rows to tokens: which of them are learnt, what is cut, what is broken and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxrun.assistant import template_of, tokenizer_of
from mlxrun.loading.open import open_model
from mlxrun.spec import ModelError
from mlxrun.text.prompting import Prompter
from mlxrun.text.template import ChatTemplate
from mlxrun.training.batches import course_of, rate_at
from mlxrun.training.config import config_of
from mlxrun.training.examples import DataSet, Example, PairExample, read_data

from .made import colours, said, tiny, write_rows

TWO = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "So long"},
]
FORGETS = (
    "{% for m in messages %}{{ m.role }}: "
    "{{ m.content if loop.last or m.role != 'assistant' else 'something' }}\n{% endfor %}assistant:"
)
NEVER_OPENS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def prompter(tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    checkpoint = open_model(tiny(tmp_path_factory.mktemp("data"))).checkpoint
    return Prompter(tokenizer_of(checkpoint), template_of(checkpoint))


def read(folder: Path, prompter: Prompter, rows: list[Any], **keys: Any) -> DataSet:
    file = write_rows(folder / "rows.jsonl", rows)
    return read_data((str(file),), config_of({"model": "m", "data": "d", "out": "o", **keys}), prompter)


def learnt(prompter: Prompter, example: object) -> list[str]:
    """The stretches that are learnt, as text."""
    assert isinstance(example, Example)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], example.learnt, [False]]).astype(int)))
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [prompter.tokenizer.decode(example.ids[start:end].tolist()) for start, end in pairs]


def with_template(prompter: Prompter, source: str | None) -> Prompter:
    return Prompter(prompter.tokenizer, ChatTemplate({} if source is None else {"default": source}, {}))


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("assistant", [" Yo\n", " So long\n"]),
        ("last", [" So long\n"]),
        ("all", ["ystem: Be short.\nuser: Hi\nassistant: Yo\nuser: Bye\nassistant: So long\n"]),
    ],
)
def test_what_is_learnt_of_a_conversation(loss: str, wanted: list[str], prompter: Prompter, tmp_path: Path) -> None:
    data = read(tmp_path, closed(prompter), [{"messages": TWO}], loss=loss)
    assert learnt(prompter, data.examples[0]) == wanted


def closed(prompter: Prompter) -> Prompter:
    """Whose template writes nothing behind a conversation that is whole."""
    source = NEVER_OPENS + "{% if add_generation_prompt %}assistant:{% endif %}"
    return with_template(prompter, source)


def test_prompts_completions_and_texts(prompter: Prompter, tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": "Yo"}, {"text": "Once"}]
    data = read(tmp_path, closed(prompter), rows)
    assert [learnt(prompter, one) for one in data.examples] == [[" Yo\n"], ["nce"]]
    plain = read(tmp_path, with_template(prompter, None), rows)
    assert [learnt(prompter, one) for one in plain.examples] == [["Yo"], ["nce"]]
    with pytest.raises(ModelError, match="no chat template for messages"):
        read(tmp_path, with_template(prompter, None), [{"messages": TWO}])


def test_tools_and_calls_are_written(prompter: Prompter, tmp_path: Path) -> None:
    source = (
        "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}"
        "{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}|"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
    messages = [TWO[1], {"role": "assistant", "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    data = read(tmp_path, with_template(prompter, source), [{"messages": messages, "tools": tools}])
    example = data.examples[0]
    assert isinstance(example, Example)
    assert prompter.tokenizer.decode(example.ids.tolist()).startswith("[look]user: Hi|assistant:")
    assert learnt(prompter, example) == [' <look {"at": 1}>|']


def test_a_template_that_rewrites_earlier_turns_is_found_out(prompter: Prompter, tmp_path: Path) -> None:
    rows = [{"messages": TWO}]
    with pytest.raises(ModelError, match=r"rows.jsonl:1: the chat template writes earlier messages in another way"):
        read(tmp_path, with_template(prompter, FORGETS.replace("{% endfor %}assistant:", "{% endfor %}")), rows)
    with pytest.raises(ModelError, match="writes earlier messages in another way"):  # with an answer begun behind all
        read(tmp_path, prompter, [{"messages": [*TWO, *TWO[1:]]}])


def test_pairs(prompter: Prompter, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "chosen": "Yo", "rejected": "No"},
        {"prompt": [TWO[1]], "chosen": [TWO[2]], "rejected": [{"role": "assistant", "content": "No"}]},
        {"chosen": TWO[1:3], "rejected": [TWO[1], {"role": "assistant", "content": "No"}]},
    ]
    data = read(tmp_path, closed(prompter), rows, objective="dpo")
    for one in data.examples:
        assert isinstance(one, PairExample)
        assert learnt(prompter, one.chosen) == [" Yo\n"]
        assert learnt(prompter, one.rejected) == [" No\n"]


BROKEN = [
    ("{", "it is no JSON"),
    ("[" * 100_000, "it is no JSON"),
    ([], "it is no JSON object"),
    ({}, "it has no messages, no prompt and completion, and no text"),
    ({"messages": []}, "messages must be a list that is not empty"),
    ({"messages": [3]}, "must be an object with a role and content"),
    ({"messages": [{"role": "king", "content": "x"}]}, "role must be one of"),
    ({"messages": TWO[:2]}, "no message of it is an assistant's"),
    ({"messages": TWO[:4]}, "its last message is not an assistant's"),
    ({"prompt": "x", "completion": ""}, "an answer must be a text that is not empty"),
    ({"prompt": 3, "completion": "x"}, "prompt must be a text that is not empty, not 3"),
    ({"text": {"a": 1}}, "text must be a text"),
    ({"chosen": "a", "rejected": "b"}, "is for the objectives dpo and orpo"),
    ({"messages": TWO, "tools": [{"name": 3}]}, "each of tools must have a function with a name"),
    ({"messages": [*TWO[1:2], {"role": "assistant", "content": "", "tool_calls": [3]}]}, "must have a function"),
]


@pytest.mark.parametrize(("row", "why"), BROKEN, ids=[why for _, why in BROKEN])
def test_a_broken_row_is_told_with_its_line(row: Any, why: str, prompter: Prompter, tmp_path: Path) -> None:
    good = [said(f"Say {number}", str(number)) for number in range(30)]
    data = read(tmp_path, closed(prompter), [*good[:2], row, *good[2:]])
    assert len(data.examples) == 30
    assert data.broken.count == 1
    assert data.broken.places[0].startswith("rows.jsonl:3: ")
    assert why in data.broken.places[0]
    with pytest.raises(ModelError, match=r"2 of 3 rows cannot be used, more than 5%: rows.jsonl:1"):
        read(tmp_path, closed(prompter), [row, row, good[0]])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Hi", "chosen": "a"}, "it has no chosen and rejected"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"chosen": TWO, "rejected": TWO[:3]}, "must differ in their last message only"),
        ({"text": "x"}, "it has no chosen and rejected"),
    ],
)
def test_broken_pairs(row: Any, why: str, prompter: Prompter, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=why):
        read(tmp_path, closed(prompter), [row], objective="orpo")


def test_long_rows_are_cut_and_counted(prompter: Prompter, tmp_path: Path) -> None:
    rows = [said("a", "b"), said("a", "b" * 100), said("a" * 100, "b")]
    data = read(tmp_path, closed(prompter), rows, length=40)
    assert [one.count for one in data.examples] == [21, 40]
    assert (data.cut, data.empty, data.broken.count) == (2, 1, 0)
    assert (data.tokens, data.supervised) == (61, 3 + 22)
    with pytest.raises(ModelError, match="nothing to learn"):
        read(tmp_path, closed(prompter), rows[2:], length=40)


def test_every_row_comes_once_an_epoch_in_an_order_of_its_seed(prompter: Prompter, tmp_path: Path) -> None:
    for packing in (False, True):
        keys = {"batch": 2, "accumulate": 2, "packing": packing, "length": 50}
        data = read(tmp_path, closed(prompter), colours(), **keys)
        config = config_of({"model": "m", "data": "d", "out": "o", "epochs": 2.5, **keys})
        course = course_of(data.examples, config)
        for number in range(3):
            told = [one for step in course.epoch(number) for batch in step for one in batch]
            assert sorted(told) == list(range(5))
        assert course.epoch(0) != course.epoch(1)
        steps = course.after(0)
        first = [next(steps) for _ in range(7)]
        later = course.after(4)
        assert [next(later) for _ in range(3)] == first[4:]
        if packing:
            sizes = [sum(course.counts[one] for one in batch) for step in course.epoch(0) for batch in step]
            assert max(sizes) <= 100
        assert course.steps == 2 * len(course.epoch(0)) + -(-len(course.epoch(0)) // 2)


def test_the_rate() -> None:
    config = config_of({"model": "m", "data": "d", "out": "o", "rate": 1.0, "warmup": 3, "schedule": "cosine"})
    rates = [rate_at(step, 13, config) for step in range(13)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert sorted(rates[3:], reverse=True) == rates[3:]
    assert rates[-1] > 0


def test_json_is_read_line_by_line(prompter: Prompter, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n\n" + json.dumps(said("a", "b")) + "\r\n\n", encoding="utf-8")
    data = read_data((str(file),), config_of({"model": "m", "data": "d", "out": "o"}), closed(prompter))
    assert len(data.examples) == 1
    with pytest.raises(ModelError, match="is not in"):
        read_data((str(tmp_path / "none"),), config_of({"model": "m", "data": "d", "out": "o"}), prompter)
