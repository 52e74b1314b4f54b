"""A document as lines: each kind of block, streamed as at once, copied as it was written, painted once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.tui import markdown as module
from mlxrun.tui.lines import Line, wrapped
from mlxrun.tui.markdown import Growing, markdown, plain
from mlxrun.tui.table import narrowed
from mlxrun.tui.widgets.document import Document
from textual.content import Content
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection
from textual.style import Style

from .fakes import chat, said
from .helpers import idle, in_app, running, send


def laid_out(document: Growing, width: int) -> list[Content]:
    return [line.content for block in document.blocks for line in block.lines(width)]


def text(source: str, width: int = 40) -> list[str]:
    return [content.plain.rstrip() for content in laid_out(Growing(markdown, source), width)]


def styles(source: str) -> list[tuple[str, object]]:
    (line,) = laid_out(Growing(markdown, source), 80)
    return [(line.plain[span.start : span.end], span.style) for span in line.spans]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("# T\n", ["T"]),
        ("a  b\nc\n", ["a b", "c"]),
        ("- a\n- b\n  - c\n", ["• a", "• b", "  ▪ c"]),
        ("- a\n\n  more\n- b\n", ["• a", "", "  more", "• b"]),
        ("9. a\n10. b\n", [" 9. a", "10. b"]),
        ("> q\n>\n> r\n", ["▌ q", "▌", "▌ r"]),
        ("---\n", ["─" * 40]),
        ("```py\nx = 1\n\n  y\n```\n", [" x = 1", "", "   y"]),
        ("    indented\n", [" indented"]),
        ("```no-such-language x\nz\n", [" z"]),
        ("|a|b|\n|-|-:|\n|1|22|\n|x\n", ["a │  b", "──┼───", "1 │ 22", "x │"]),
        ("<b>x</b> ![alt](u) &amp;\n", ["<b>x</b> [image: alt] &"]),
        ("<div>\n", ["<div>"]),
        ("*a\n", ["*a"]),
        ("-\n", ["•"]),
        ("```\n", [""]),
    ],
)
def test_blocks(source: str, lines: list[str]) -> None:
    assert text(source) == lines


def test_styles() -> None:
    assert styles("a **b *c*** `d`") == [("c", "italic"), ("b c", "bold"), ("d", "$code on $surface")]
    assert styles("[x](javascript:y)") == []  # no link is made of a script
    (words, line), (_, link) = styles("[x y](https://e.org/'q)")
    assert (words, line) == ("x y", "underline")
    assert isinstance(link, Style)
    assert link.meta["@click"] == 'link("https://e.org/\'q")'


@pytest.mark.parametrize("width", [1, 2, 8, 9, 20, 41])
def test_nothing_is_wider_than_there_is_room(width: int) -> None:
    source = "# A heading of words\n\n- item `code` 日本語日本語日本語\n\n```\nlong = 'x' * 1000000\n```\n\n> quoted\n"
    assert all(content.cell_length <= max(width, 6) for content in laid_out(Growing(markdown, source), width))


def test_the_widest_columns_give_way() -> None:
    assert narrowed([3, 50, 20], 33) == [3, 15, 15]
    assert narrowed([3, 4], 100) == [3, 4]
    assert narrowed([30] * 10, 5) == [2] * 10


WHOLE = (
    "# T\n\nA line\nand one\n===\n\n- a\n- b\n  - c\n\n  more\n\n```py\nx = 1\n\ny\n```\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\nlazy\n\n1. one\n2. two\n\n***\n\n"
    "    code\n\n    more of it\nend **bold\nand more** _x_\n"
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=60), st.sampled_from((markdown, plain)))
def test_in_pieces_it_becomes_what_it_is_at_once(cuts: list[int], read: object) -> None:
    marks = [0, *sorted(cuts), len(WHOLE)]
    growing = Growing(read)  # type: ignore[arg-type]  # one of the two readers
    for start, end in pairwise(marks):
        kept = [block.lines(30) for block in growing.blocks]
        same = growing.add(WHOLE[start:end])
        assert [block.lines(30) for block in growing.blocks[:same]] == kept[:same]
    whole = Growing(read, WHOLE)  # type: ignore[arg-type]  # as above
    assert laid_out(growing, 30) == laid_out(whole, 30)
    assert [block.start for block in growing.blocks] == [block.start for block in whole.blocks]


LONG = (
    "one two three four five six seven eight nine ten\n\n```\nif y:\n    " + "x" * 30 + "\n```\n"
    "- an item that is as long as two lines\n\n> a quote that is as long as two lines\n"
)
COPIED = (
    "one two three four five six seven eight nine ten\n\nif y:\n    " + "x" * 30 + "\n\n"
    "• an item that is as long as two lines\n\na quote that is as long as two lines"
)


@asynccontextmanager
async def answered(folder: Path, text: str, width: int = 60) -> AsyncIterator[tuple[Pilot[None], Document]]:
    app, _ = chat(folder, said(text))
    async with running(app, (width, 24)) as pilot:
        await send(pilot, "go")
        await idle(pilot)
        yield pilot, app.chat.query_one(".said", Document)


@in_app
async def test_a_copy_has_the_lines_of_the_source_and_not_those_of_the_screen(folder: Path) -> None:
    async with answered(folder, LONG, 30) as (_, document):
        assert document.get_selection(Selection(None, None)) == (COPIED, "\n")
        assert document.get_selection(Selection(Offset(4, 0), Offset(5, 1))) == ("two three four five six s", "\n")


@in_app
async def test_what_is_selected_looks_so_and_a_theme_paints_anew(folder: Path) -> None:
    async with answered(folder, "# Head\n\nwords here") as (pilot, document):
        head = document.render_line(0)
        assert document.render_line(0) is head
        pilot.app.screen.selections = {document: Selection(Offset(6, 2), None)}
        await pilot.pause()
        colours = [(part.text, part.style.bgcolor) for part in document.render_line(2) if part.style]
        assert colours[0][0] == "words "
        assert colours[1] != ("here", colours[0][1])
        pilot.app.theme = "mlxrun-light"
        await pilot.pause()
        assert [part.style for part in document.render_line(0)] != [part.style for part in head]


@in_app
async def test_a_long_answer_lays_out_only_what_is_new(folder: Path) -> None:
    async with answered(folder, "go") as (pilot, document):
        document.show("go\n\n" + "words\n\n" * 500)
        await pilot.pause()
        laid_out: list[str] = []

        def noted(content: Content, width: int) -> list[Line]:
            laid_out.append(content.plain)
            return wrapped(content, width)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "wrapped", noted)
            document.add("more\n\nend")
            await pilot.pause()
        assert laid_out == ["words", "more", "end"]  # the last block might have gone on
