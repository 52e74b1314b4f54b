"""Grammars as llguidance reads them, put together of literals, rules and schemas.

Markers that are one token of a vocabulary stand in it by their ids: free text never holds them. Knows no tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .tokenizer import Tokenizer

SPACES = r"[ \t\r\n]{1,64}"  # between the tokens of JSON; without a limit small models write nothing else
ANY = r"(.|\n)*"
EMPTY = '""'


class MarkerTokens:
    """Which tokens of a vocabulary are markers: control tokens, and those that were added for some texts."""

    def __init__(self, tokenizer: Tokenizer, texts: Iterable[str]) -> None:
        found = {text: tokenizer.added_id(text) for text in (*tokenizer.controls, *texts) if text.strip()}
        self.ids = {text: token for text, token in found.items() if token is not None}
        longest = sorted(self.ids, key=len, reverse=True)
        self._find = re.compile("|".join(map(re.escape, longest))) if longest else None

    def split(self, text: str) -> list[str | int]:
        """Texts and markers' ids in turn."""
        pieces: list[str | int] = []
        start = 0
        for found in self._find.finditer(text) if self._find else ():
            pieces += [text[start : found.start()], self.ids[found[0]]]
            start = found.end()
        return [piece for piece in (*pieces, text[start:]) if piece != ""]


@dataclass(frozen=True, slots=True)
class Literal:
    """A text as it is, that markers may stand in."""

    text: str


class LarkText:
    def __init__(self, markers: MarkerTokens) -> None:
        self.markers = markers
        self._lines: list[str] = []
        self._known: dict[str, str] = {}  # body -> the rule that has it

    def literal(self, text: str) -> str:
        pieces = [f"<[{piece}]>" if isinstance(piece, int) else quoted(piece) for piece in self.markers.split(text)]
        return " ".join(pieces) or EMPTY

    def rule(self, body: str, hint: str = "r", *, lazy: bool = False, terminal: bool = False) -> str:
        """The name of a rule with this body."""
        known = f"{lazy} {body}"
        name = self._known.get(known)
        if name is None:
            name = f"{hint}_{len(self._known)}"
            self._known[known] = name = name.upper() if terminal else name
            self._lines.append(f"{name}{'[lazy]' if lazy else ''}: {body}")
        return name

    def named(self, name: str, body: str) -> None:
        """A rule that others know by this name."""
        line = f"{name}: {body}"
        if line not in self._lines:
            self._lines.append(line)

    def until(self, text: str, inner: str = ANY, hint: str = "raw") -> str:
        """Free text up to this one, which ends it where it first comes."""
        first, *rest = self.markers.split(text)
        if isinstance(first, int):
            return self.joined([self.rule(f"/{inner}/", hint, terminal=True), self.literal(text)])
        ends = self.rule(f"/{inner}/ {quoted(first)}", hint, lazy=True)
        more = "".join(f" <[{piece}]>" if isinstance(piece, int) else f" {quoted(piece)}" for piece in rest)
        return ends + more

    def regex(self, pattern: str, hint: str = "re") -> str:
        return self.rule("/" + pattern.replace("/", r"\/") + "/", hint, terminal=True)

    def nested(self, grammar: str) -> str:
        """Another grammar, from its own start."""
        return self.rule("%lark {\n" + grammar + "\n}", "nested")

    def json(self, schema: Any) -> str:
        guidance = {"whitespace_pattern": SPACES, "coerce_one_of": True}
        if isinstance(schema, bool):
            schema = {}
        return self.rule("%json " + json.dumps({**schema, "x-guidance": guidance}), "json")

    def joined(self, parts: Sequence[str | Literal]) -> str:
        """One after the other. Neighbouring texts are one: where a grammar begins, what is read is the longest."""
        found: list[str | Literal] = []
        for part in parts:
            if found and isinstance(part, Literal) and isinstance(found[-1], Literal):
                found[-1] = Literal(found[-1].text + part.text)
            elif part != EMPTY:
                found.append(part)
        told = (self.literal(part.text) if isinstance(part, Literal) else part for part in found)
        return " ".join(part for part in told if part != EMPTY) or EMPTY

    def one_of(self, parts: Sequence[str], hint: str = "any") -> str:
        return parts[0] if len(parts) == 1 else self.rule(" | ".join(parts), hint)

    def text(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._lines]) + "\n"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def tokens(ids: Iterable[int]) -> str:
    """One of these tokens."""
    ranges: list[list[int]] = []
    for token in sorted(ids):
        if ranges and token == ranges[-1][1] + 1:
            ranges[-1][1] = token
        else:
            ranges.append([token, token])
    return "<[" + ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in ranges) + "]>"
