"""Markdown as lines for a width, block by block; and a document that grows, of which only the last block is read again.

HTML is shown as it was written, and nothing becomes a link that was not written as one. Knows no widgets.
A reference that is defined after its use stays as it was written until the text is read as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from textual.content import Content
from textual.highlight import highlight
from textual.style import Style

from .lines import BLANK, NARROWEST, Line, folded, hung, wrapped
from .table import table

BULLETS = "•▪‣◦"
HEADING, MARKER, QUOTE, RULE = "bold $primary", "$primary", "$track", "$track"
CODE, FENCE, LINK = "$code on $surface", "$foreground on $surface", "underline"
INLINE = {"em": "italic", "strong": "bold", "s": "strike"}
LISTS = ("bullet_list", "ordered_list")


@dataclass(frozen=True, slots=True)
class Block:
    start: int  # where in the source it begins
    gap: int  # blank lines before it
    lines: Callable[[int], list[Line]]  # by width


Read = Callable[[str, int], list[Block]]  # the blocks of a source from a position on


class Growing:
    def __init__(self, read: Read, source: str = "") -> None:
        self._read = read
        self.source, self.blocks = source, read(source, 0)

    def add(self, text: str) -> int:
        """The number of blocks that are as they were."""
        self.source += text
        kept = max(0, len(self.blocks) - 1)
        start = self.blocks[kept].start if self.blocks else 0
        self.blocks[kept:] = self._read(self.source, start)
        return kept


def plain(source: str, start: int) -> list[Block]:
    """Each line a block."""
    blocks = []
    for text in source[start:].split("\n"):
        blocks.append(Block(start, 0, partial(wrapped, Content(text))))
        start += len(text) + 1
    return blocks


def markdown(source: str, start: int) -> list[Block]:
    text = source[start:]
    lines = [0, *(found.end() for found in re.finditer("\n", text))]
    nodes = SyntaxTreeNode(parser().parse(text)).children
    return [Block(start + lines[node.map[0] if node.map else 0], 1, partial(block, node)) for node in nodes]


@cache
def parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def block(node: SyntaxTreeNode, width: int, depth: int = 0) -> list[Line]:
    width = max(width, NARROWEST)
    match node.type:
        case "heading":
            return wrapped(inline(node).stylize(HEADING), width)
        case "bullet_list" | "ordered_list":
            return items(node, width, depth)
        case "blockquote":
            return hung(stacked(node.children, width - 2, depth), Content.styled("▌ ", QUOTE))
        case "fence" | "code_block":
            return code(node, width)
        case "hr":
            return [Line(Content.styled("─" * width, RULE))]
        case "table":
            return grid([row for part in node.children for row in part.children], width)
        case _:
            return wrapped(inline(node), width)


def stacked(nodes: Sequence[SyntaxTreeNode], width: int, depth: int) -> list[Line]:
    """Blocks with a blank line between, but none before a list in a list."""
    lines: list[Line] = []
    for node in nodes:
        if lines and not (depth and node.type in LISTS):
            lines.append(BLANK)
        lines += block(node, width, depth)
    return lines or [BLANK]


def items(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    if node.type == "bullet_list":
        marks = [BULLETS[min(depth, len(BULLETS) - 1)]] * len(node.children)
    else:
        first = int(node.attrs.get("start", 1))
        marks = [f"{number}." for number in range(first, first + len(node.children))]
    room = max(map(len, marks)) + 1
    lines: list[Line] = []
    for mark, item in zip(marks, node.children, strict=True):
        content = stacked(item.children, width - room, depth + 1)
        lines += hung(content, Content(" " * room), Content.styled(f"{mark:>{room - 1}} ", MARKER))
    return lines


def code(node: SyntaxTreeNode, width: int) -> list[Line]:
    language = node.info.split()[0] if node.info.split() else None
    lines = folded(highlight(node.content.rstrip("\n"), language=language), width - 2)
    padded = [replace(line, content=line.content.pad_right(width - 1 - line.content.cell_length)) for line in lines]
    return [replace(line, content=line.content.stylize_before(FENCE)) for line in hung(padded, Content(" "))]


def grid(rows: list[SyntaxTreeNode], width: int) -> list[Line]:
    right = [cell.attrs.get("style") == "text-align:right" for cell in rows[0].children]
    return table([[inline(cell) for cell in row.children] for row in rows], right, width)


def inline(node: SyntaxTreeNode) -> Content:
    """The text of a block, styled. A line that ends in the source ends here: so models write verse and addresses."""
    content = Content("").join(inline(child) for child in node.children)
    match node.type:
        case "softbreak" | "hardbreak":
            return Content("\n")
        case "text":
            return Content(re.sub(r"[ \t]+", " ", node.content))
        case "code_inline":
            return Content.styled(node.content, CODE)
        case "image":
            return linked(Content(f"[image: {node.content}]"), str(node.attrs.get("src", "")))
        case "link":
            return linked(content, str(node.attrs.get("href", "")))
        case name if name in INLINE:
            return content.stylize(INLINE[name])
        case _:
            return content


def linked(content: Content, href: str) -> Content:
    return content.stylize(LINK).stylize(Style.from_meta({"@click": f"link({href!r})"}))
