r"""A Lark grammar of a text -> the grammar of that text as it stands inside a JSON string: a line break is \n there.

Letter by letter, so what the one grammar lets come the other does, spelled as JSON writers spell it; but for control
characters that JSON has no short name for, which do not come. Of Lark what agents use is understood: rules, texts,
regular expressions and the common terminals. Knows no tool and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from re import _constants as kinds  # type: ignore[attr-defined]  # the parser of expressions that Python comes with
from re import _parser as parser  # type: ignore[attr-defined]  # has no public name
from typing import Any

from .lark import EMPTY, quoted

PIECES = re.compile(
    r"""(?P<comment>//[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"i?)|(?P<regex>/(?:[^/\\\n]|\\.)+/[a-z]*)"""
    r"""|%import[ ]+common\.(?P<common>\w+)(?:[ ]*->[ ]*(?P<alias>\w+))?"""
    r"""|(?P<terminal>\b_?[A-Z][A-Z0-9_]*\b)|(?P<other>[%&~<{])""",
)
COMMON = {
    "LF": r"\n", "CR": r"\r", "NEWLINE": r"(\r?\n)+", "WS": r"[ \t\f\r\n]+", "WS_INLINE": r"[ \t]+", "DIGIT": "[0-9]",
    "INT": "[0-9]+", "LETTER": "[A-Za-z]", "WORD": "[A-Za-z]+", "CNAME": "[A-Za-z_][A-Za-z0-9_]*",
}  # fmt: skip
LAST, SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)
CATEGORIES = {
    kinds.CATEGORY_DIGIT: [(0x30, 0x39)],
    kinds.CATEGORY_SPACE: [(0x9, 0xD), (0x20, 0x20)],
    kinds.CATEGORY_WORD: [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
}  # fmt: skip
SHORT = (0x8, 0x9, 0xA, 0xC, 0xD, 0x22, 0x5C)  # letters that are two in JSON
Ranges = list[tuple[int, int]]


class NotUnderstood(ValueError):
    """Something in a grammar that cannot be said inside JSON here."""


def inside_json(grammar: str) -> str:
    """Raises NotUnderstood."""
    try:
        return PIECES.sub(_piece, grammar)
    except RecursionError as error:
        raise NotUnderstood("an expression that is nested too deeply") from error


def _piece(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "comment":
            return ""
        case "text":
            return _text(found["text"])
        case "regex":
            body, _, flags = found["regex"][1:].rpartition("/")
            return expression(body.replace(r"\/", "/"), flags)
        case "terminal":
            return _rule(found[0])
        case "common" | "alias" if found["common"] in COMMON:
            return f"{_rule(found['alias'] or found['common'])}: {expression(COMMON[found['common']])}"
    raise NotUnderstood(found[0])


def _text(written: str) -> str:
    try:
        text = json.loads(written.removesuffix("i"))
    except ValueError as error:
        raise NotUnderstood(written) from error
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    if written.endswith("i") and inside != text:
        raise NotUnderstood(written)  # in another case an escape would be none
    return quoted(inside) + ("i" if written.endswith("i") else "")


def _rule(terminal: str) -> str:
    return f"t_{terminal.lower()}"


def expression(pattern: str, flags: str = "") -> str:
    """A regular expression as Lark's own items."""
    if flags.strip("s"):
        raise NotUnderstood(f"/{pattern}/{flags}")
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise NotUnderstood(pattern) from error
    return _sequence(parsed, dot_all=bool(flags))


def _sequence(parsed: Iterable[tuple[Any, Any]], *, dot_all: bool) -> str:
    return " ".join([_item(kind, value, dot_all) for kind, value in parsed]) or EMPTY


def _item(kind: Any, value: Any, dot_all: bool) -> str:
    if kind is kinds.BRANCH:
        return "(" + " | ".join(_sequence(one, dot_all=dot_all) for one in value[1]) + ")"
    if kind is kinds.SUBPATTERN and not value[1] and not value[2]:
        return f"({_sequence(value[3], dot_all=dot_all)})"
    if kind is kinds.MAX_REPEAT:
        least, most, inner = value
        if most == kinds.MAXREPEAT and least < 2:
            return f"({_run(inner, dot_all)}){'+' if least else '*'}"
        return f"({_sequence(inner, dot_all=dot_all)}){{{least},{'' if most == kinds.MAXREPEAT else most}}}"
    return letters(_letter(kind, value, dot_all))


def _run(parsed: Sequence[tuple[Any, Any]], dot_all: bool) -> str:
    """What is repeated; of one letter several at a time."""
    if len(parsed) == 1 and parsed[0][0] in (kinds.LITERAL, kinds.NOT_LITERAL, kinds.ANY, kinds.IN):
        return letters(_letter(parsed[0][0], parsed[0][1], dot_all), sign="+")
    return _sequence(parsed, dot_all=dot_all)


def _letter(kind: Any, value: Any, dot_all: bool) -> Ranges:
    """What of an expression stands for one letter."""
    if kind is kinds.LITERAL:
        return [(value, value)]
    if kind is kinds.NOT_LITERAL:
        return others([(value, value)])
    if kind is kinds.ANY:
        return others([] if dot_all else [(0xA, 0xA)])
    if kind is kinds.IN:
        return _set(value)
    raise NotUnderstood(str(kind))


def _set(members: Sequence[tuple[Any, Any]]) -> Ranges:
    found: Ranges = []
    for kind, value in members:
        if kind is kinds.LITERAL:
            found.append((value, value))
        elif kind is kinds.RANGE:
            found.append(value)
        elif kind is kinds.CATEGORY and value in CATEGORIES:
            found += CATEGORIES[value]
        elif kind is not kinds.NEGATE:
            raise NotUnderstood(str(value))
    return others(found) if members and members[0][0] is kinds.NEGATE else found


def others(ranges: Ranges) -> Ranges:
    """All letters but these."""
    left, start = Ranges(), 0
    for low, high in [*sorted([*ranges, SURROGATES]), (LAST + 1, LAST + 1)]:
        if low > start:
            left.append((start, low - 1))
        start = max(start, high + 1)
    return left


def letters(ranges: Ranges, sign: str = "") -> str:
    """One of these letters as JSON spells it: each that it escapes alone, for what follows may begin with a backslash
    too; of the others as many as `sign` says."""
    plain = others([*others(ranges), (0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])
    told = [quoted(json.dumps(chr(code))[1:-1]) for code in SHORT if any(low <= code <= high for low, high in ranges)]
    if plain:
        told.append("/[" + "".join(rf"\u{{{low:x}}}-\u{{{high:x}}}" for low, high in plain) + f"]{sign}/")
    if not told:
        raise NotUnderstood("a set without letters")
    return told[0] if len(told) == 1 else f"({' | '.join(told)})"
