"""Thoughts between markers of text: the same parts however the answer is cut, and no character lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.parts import Said, Thought
from mlxrun.text.items import Hidden, Item
from mlxrun.text.reasoning import BlockReader, opens
from mlxrun.text.reasoning_formats import FORMATS, THINK, ThoughtBlock

REPLY = st.lists(st.sampled_from(["<think>", "</think>", "<th", "</", "think>", "a", " ", "\n", "b<"]), max_size=12)


def expected(text: str, opened: bool) -> tuple[str, str]:
    bare = text.lstrip()
    if not opened:
        if not bare.startswith("<think>"):
            return "", text
        text = text[: len(text) - len(bare)] + bare[len("<think>") :]
    reasoning, _, content = text.partition("</think>")
    return reasoning, content


def run(pieces: list[str], opened: bool) -> tuple[str, str]:
    reader = BlockReader(THINK, tokens=False, opened=opened)
    items = [item for piece in pieces for item in reader.push(piece)] + reader.finish()
    assert all(text for _, text in told(items))
    kinds = [kind for kind, _ in told(items) if kind != "hidden"]
    assert kinds == sorted(kinds, reverse=True)  # thoughts first
    text = {name: "".join(text for kind, text in told(items) if kind == name) for name in ("thought", "said")}
    return text["thought"], text["said"]


def told(items: list[Item]) -> list[tuple[str, str]]:
    names: dict[type, str] = {Said: "said", Thought: "thought", Hidden: "hidden"}
    return [(names[type(item)], item.text) for item in items if isinstance(item, Said | Thought | Hidden)]


@given(parts=REPLY, cuts=st.lists(st.integers(0, 60), max_size=8), opened=st.booleans())
def test_every_split(parts: list[str], cuts: list[int], opened: bool) -> None:
    text = "".join(parts)
    ends = sorted({min(cut, len(text)) for cut in (*cuts, len(text))})
    pieces = [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    assert run(pieces, opened) == run(list(text), opened) == expected(text, opened)


@pytest.mark.parametrize(
    ("reply", "opened", "reasoning", "content"),
    [
        ("<think>\nhm\n</think>\n\nYes", False, "\nhm\n", "\n\nYes"),
        ("hm</think>Yes", True, "hm", "Yes"),
        ("Yes", False, "", "Yes"),
        ("<think>cut off", False, "cut off", ""),
        ("<think>cut off</thi", False, "cut off</thi", ""),
        ("<thi", False, "", "<thi"),
        ("  \n", False, "", "  \n"),
        ("Write <think> first, then </think>.", False, "", "Write <think> first, then </think>."),
        ("<think></think>a<think>b</think>", False, "", "a<think>b</think>"),
        ("", False, "", ""),
    ],
)
def test_replies(reply: str, opened: bool, reasoning: str, content: str) -> None:
    assert run([reply], opened) == run(list(reply), opened) == (reasoning, content)


def test_thoughts_are_shown_at_once() -> None:
    reader = BlockReader(THINK, tokens=False, opened=False)
    assert reader.push("<thi") == []
    assert reader.push("nk>so <") == [Hidden("<think>"), Thought("so ")]
    assert reader.push("b></think>ok") == [Thought("<b>"), Hidden("</think>"), Said("ok")]


def block(name: str) -> ThoughtBlock:
    found = next(form for form in FORMATS if form.name == name)
    assert isinstance(found, ThoughtBlock)
    return found


def test_prompts_that_open() -> None:
    assert opens(block("mistral"), "<|assistant|>\n[THINK]\n")
    assert not opens(block("mistral"), "[THINK] was said before")
    assert opens(block("gemma"), "<|turn>model\n<|channel>thought\n")
    assert not opens(block("gemma"), "<|channel>thought\n<channel|>")


def joined(reader: BlockReader, pieces: list[str]) -> list[tuple[str, str]]:
    """Neighbours of one kind made one."""
    items = [item for piece in pieces for item in reader.push(piece)] + reader.finish()
    runs: list[tuple[str, str]] = []
    for kind, text in told(items):
        if runs and runs[-1][0] == kind:
            runs[-1] = kind, runs[-1][1] + text
        else:
            runs.append((kind, text))
    return runs


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<think>a</think>\n<response>b</response>", "\nb"),
        ("<think>a</think><response>b <response> </response>c", "b <response> c"),
        ("<think>a</think>b</response>", "b</response>"),
        ("<think>a</think><respond>", "<respond>"),
        ("<think>a</think><response>b</respo", "b</respo"),
        ("<think>a</think>  <resp", "  <resp"),
    ],
)
def test_texts_round_the_answer(answer: str, said: str) -> None:
    for pieces in ([answer], list(answer)):
        runs = joined(BlockReader(block("granite"), tokens=False, opened=False), pieces)
        assert "".join(text for kind, text in runs if kind == "said") == said
        assert [text for kind, text in runs if kind == "thought"] == ["a"]
