"""A table as lines: columns as wide as they need, the widest narrowed first where the width does not suffice."""

from __future__ import annotations

from itertools import zip_longest

from textual.content import Content

from .lines import NARROWEST, Line, wrapped

HEAD, RULE = "bold", "$track"


def table(rows: list[list[Content]], right: list[bool], width: int) -> list[Line]:
    """The first row is the head; `right`: the columns whose cells stand at their right side."""
    columns = max(map(len, rows))
    wanted = [max(row[column].cell_length for row in rows if column < len(row)) for column in range(columns)]
    widths = narrowed(wanted, width - 3 * (columns - 1))
    head, *body = (line_up(row, widths, right) for row in rows)
    rule = Content.styled("─┼─".join("─" * width for width in widths), RULE)
    return [Line(content.stylize(HEAD)) for content in head] + [Line(rule)] + [Line(c) for row in body for c in row]


def narrowed(wanted: list[int], room: int) -> list[int]:
    """At most `room` together, if that can be."""
    widths = [max(width, 1) for width in wanted]
    while sum(widths) > room and max(widths) > NARROWEST:
        widest = widths.index(max(widths))
        widths[widest] -= 1
    return widths


def line_up(row: list[Content], widths: list[int], right: list[bool]) -> list[Content]:
    cells = [[line.content for line in wrapped(cell, width)] for cell, width in zip(row, widths, strict=False)]
    cells += [[]] * (len(widths) - len(cells))
    bar = Content.styled(" │ ", RULE)
    return [
        bar.join(padded(*cell) for cell in zip(parts, widths, right, strict=True))
        for parts in zip_longest(*cells, fillvalue=Content(""))
    ]


def padded(cell: Content, width: int, right: bool) -> Content:
    room = width - cell.cell_length
    return cell.pad_left(room) if right else cell.pad_right(room)
