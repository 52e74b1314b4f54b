"""Token probabilities painted over a text, and memory as a bar: HTML for notebooks. What a model wrote is escaped.

Likely tokens keep a clear background, unlikely ones turn red; pointing at one shows its probability and
what else could have stood there. Colours have an opacity, so light and dark pages both work.
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from html import escape
from typing import Protocol

from ..core import Memory

BOX = "white-space:pre-wrap;font-family:ui-monospace,monospace;line-height:1.7"
STRONGEST = 0.65  # opacity of the background behind the unlikeliest token


class Painted(Protocol):
    """What is needed of a token; see `parts.Token`."""

    @property
    def bytes(self) -> bytes: ...

    @property
    def text(self) -> str: ...

    @property
    def logprob(self) -> float: ...

    @property
    def top(self) -> Sequence[Painted]: ...


def painted(text: str, reasoning: str, tokens: Sequence[Painted]) -> str:
    if tokens:
        return f'<div style="{BOX}">{"".join(map(span, characters(tokens)))}</div>'
    thought = f"<details><summary>reasoning</summary>{escape(reasoning)}</details>" if reasoning else ""
    return f'<div style="{BOX}">{thought}{escape(text)}</div>'


def characters(tokens: Sequence[Painted]) -> Iterator[tuple[str, list[Painted]]]:
    """(text, the tokens that make it up): tokens that end within a character join the next one."""
    decode, group = getincrementaldecoder("utf-8")("replace").decode, []
    for index, token in enumerate(tokens):
        group.append(token)
        text = decode(token.bytes, index == len(tokens) - 1)
        if text:
            yield text, group
            group = []


def span(part: tuple[str, list[Painted]]) -> str:
    text, tokens = part
    chance = math.exp(min(0.0, sum(token.logprob for token in tokens)))
    told = [f"{chance:.1%}"]
    for token in tokens:
        told += [f"{other.text!r} {math.exp(min(0.0, other.logprob)):.1%}" for other in token.top]
    strength = STRONGEST * (1 - chance)
    style = f"background:rgba(220,60,40,{strength:.2f});border-radius:2px"
    title = escape("\n".join(told), quote=True).replace("\n", "&#10;")
    return f'<span style="{style}" title="{title}">{escape(text)}</span>'


def bars(memory: Memory) -> str:
    """Weights, what sequences remember, what everything else on the machine holds; the rest of the bar is free."""
    other = max(0, memory.total - memory.free - memory.weights - memory.cache)
    parts = (
        ("weights", memory.weights, "rgba(200,120,40,.9)"),
        ("remembered", memory.cache, "rgba(60,140,120,.9)"),
        ("everything else", other, "rgba(128,128,128,.45)"),
        ("free", memory.free, "rgba(128,128,128,.15)"),
    )
    total = max(1, memory.total, sum(size for _, size, _ in parts))
    bar = "".join(
        f'<div style="width:{100 * size / total:.2f}%;background:{colour}"></div>' for _, size, colour in parts
    )
    told = "".join(
        f'<span style="display:inline-block;width:.7em;height:.7em;margin:0 .4em 0 1em;background:{colour}"></span>'
        f"{name} {gigabytes(size)}"
        for name, size, colour in parts
    )
    return (
        f'<div style="max-width:50em;font-family:system-ui,sans-serif"><div style="display:flex;height:1em">{bar}</div>'
        f'<div style="margin:.4em 0 0 -1em">{told}</div></div>'
    )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
