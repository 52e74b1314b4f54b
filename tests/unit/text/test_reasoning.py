"""Reasoning and content: the same parts however the reply is cut, and no character lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.text.reasoning import ReasoningSplit

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
    split = ReasoningSplit(opened=opened)
    parts = [part for piece in pieces for part in split.push(piece)] + split.finish()
    assert all(part.text for part in parts)
    kinds = [part.kind for part in parts]
    assert kinds == sorted(kinds, reverse=True)  # reasoning first
    text = {kind: "".join(part.text for part in parts if part.kind == kind) for kind in ("reasoning", "content")}
    return text["reasoning"], text["content"]


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


def test_reasoning_is_shown_at_once() -> None:
    split = ReasoningSplit()
    assert split.push("<thi") == []
    assert [(p.kind, p.text) for p in split.push("nk>so <")] == [("reasoning", "so ")]
    assert [(p.kind, p.text) for p in split.push("b></think>ok")] == [("reasoning", "<b>"), ("content", "ok")]


def test_other_tags_and_prompts_that_open() -> None:
    split = ReasoningSplit("[THINK]", "[/THINK]")
    assert [(p.kind, p.text) for p in split.push("[THINK]a[/THINK]b")] == [("reasoning", "a"), ("content", "b")]
    assert split.opens("<|assistant|>\n[THINK]\n")
    assert not split.opens("[THINK] was said before")
