"""Strings that are safe to show, sizes and shares."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxrun.tui.pace import LONGEST, SHORTEST, Pace, Rate
from mlxrun.tui.text import Shown, ago, one_line, size, typed, visible
from mlxrun.tui.theme import DARK, LIGHT, first_theme
from mlxrun.tui.widgets.meter import bar

from mlxrun.core import Memory

OBEYED = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}
BIDI = {
    chr(code)
    for code in range(0x110000)
    if unicodedata.bidirectional(chr(code)) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
}


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_is_obeyed_is_left(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & (OBEYED | BIDI)
    shown.encode()
    assert len(shown.split("\n")) == len(shown.splitlines() or [""]) + shown.endswith("\n")


@given(st.lists(st.text(st.sampled_from("ab\r\n\x1b"))))
def test_pieces_show_what_the_whole_shows(pieces: list[str]) -> None:
    shown = Shown()
    assert "".join(map(shown.push, pieces)) + shown.finish() == visible("".join(pieces))


def test_letters_of_every_script_and_emoji_stay() -> None:
    text = "שלום مرحبا 👩‍👩‍👧 ﬁ é नमस्ते\tx\n"
    assert visible(text) == text == typed(text)


@given(st.text())
def test_typed_text_has_no_control_characters(text: str) -> None:
    assert not set(typed(text)) & OBEYED


@pytest.mark.parametrize(
    ("count", "long", "brief"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (12_345, "12 kB", "12 kB"),
        (98_362_432, "98.4 MB", "98 MB"),
        (999_960_000, "1.0 GB", "1.0 GB"),
        (17_300_000_000, "17.3 GB", "17 GB"),
        (2 * 10**12, "2.0 TB", "2.0 TB"),
    ],
)
def test_sizes(count: int, long: str, brief: str) -> None:
    assert (size(count), size(count, brief=True)) == (long, brief)


def test_small_words() -> None:
    assert [ago(seconds) for seconds in (5, 60, 7200, 200_000)] == ["just now", "1 min ago", "2 h ago", "2 d ago"]
    assert one_line(" a\n b\x1b " + "c" * 99, 10) == "a b␛ ccccc…"[:9] + "…"


@given(*[st.integers(0, 10**12)] * 4, st.integers(4, 40))
def test_the_bar_is_always_as_long(weights: int, cache: int, free: int, total: int, cells: int) -> None:
    memory = Memory(weights=weights, cache=cache, active=0, peak=0, free=free, total=total)
    assert sum(len(text) for text, _ in bar(memory, cells)) == cells


def test_what_is_there_has_a_cell() -> None:
    memory = Memory(weights=1, cache=1, active=2, peak=2, free=10**10, total=10**10)
    assert [style for _, style in bar(memory, 16)][:2] == ["$primary", "$secondary"]


def test_dear_paints_make_long_pauses() -> None:
    spent = iter([0.0, 0.001, 0.041, 5.0])
    pace = Pace(lambda: next(spent))
    assert [pace.pause(), round(pace.pause(), 3), pace.pause()] == [SHORTEST, 0.2, LONGEST]


def test_the_rate_is_of_the_last_seconds() -> None:
    times = iter([0.0, 1.0, 2.0, 9.0, 10.0])
    rate = Rate(lambda: next(times))
    assert [rate.add(10) for _ in range(5)] == [None, 10.0, 10.0, None, 10.0]


def test_the_first_theme() -> None:
    assert first_theme(None, {}) == DARK.name
    assert first_theme(None, {"COLORFGBG": "0;15"}) == LIGHT.name
    assert first_theme(None, {"COLORFGBG": "15;0"}) == DARK.name
    assert first_theme(DARK.name, {"COLORFGBG": "0;15"}) == DARK.name
    assert first_theme("gone", {}) == DARK.name
