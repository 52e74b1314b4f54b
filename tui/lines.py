"""Lines of a text laid out for a width: how they look, and how they go on where a person copies them.

Styles are words of the theme ("$primary bold"), so that another theme needs no new layout. Knows no widgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from textual.content import Content

NARROWEST = 2  # cells: a character may take two


@dataclass(frozen=True, slots=True)
class Line:
    content: Content
    end: str = "\n"  # what a copy has between this line and the next: a line that was broken is one line again
    aside: int = 0  # characters at its beginning that no copy has


BLANK = Line(Content(""))


def wrapped(content: Content, width: int) -> list[Line]:
    """Broken between words where it can be."""
    lines: list[Line] = []
    for part in content.split("\n", allow_blank=True):
        lines += joined(part.plain, part.wrap(max(width, NARROWEST)) or [part])
    return lines


def folded(content: Content, width: int) -> list[Line]:
    """Cut where the width ends: code, where each space counts."""
    lines: list[Line] = []
    for part in content.split("\n", allow_blank=True):
        lines += joined(part.plain, part.fold(max(width, NARROWEST)))
    return lines


def joined(whole: str, pieces: list[Content]) -> Iterator[Line]:
    """`pieces` in the order of `whole`, of which a break may have taken spaces."""
    position = 0
    for piece in pieces[:-1]:
        position += len(piece.plain)
        after = len(whole) - len(whole[position:].lstrip(" "))
        yield Line(piece, " " * (after - position))
        position = after
    yield Line(pieces[-1])


def hung(lines: Iterable[Line], margin: Content, mark: Content | None = None) -> list[Line]:
    """`margin` stands before each line, and a copy has it not; `mark`, which it has, before the first."""
    return [
        replace(line, content=mark + line.content)
        if mark is not None and index == 0
        else replace(line, content=margin + line.content, aside=len(margin) + line.aside)
        for index, line in enumerate(lines)
    ]
