"""Strings as a person may safely see them. Knows no widgets.

What a model writes is shown and never obeyed: characters that steer a terminal, turn the order of
letters round or cannot be seen at all become signs that can be seen.
"""

from __future__ import annotations

import re

NEWLINE, TAB = 0x0A, 0x09
SIGNS: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if code not in (NEWLINE, TAB)}  # ESC -> ␛
SIGNS |= {0x7F: "\u2421"} | {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
TYPED_SIGNS = dict(SIGNS)  # for what a person pastes: their letters may well run from right to left
BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
INVISIBLE = (0x00AD, 0x034F, 0x115F, 0x1160, 0x180E, 0x200B, *range(0x2060, 0x2065), *range(0x206A, 0x2070), 0xFEFF)
LINES = (0x2028, 0x2029)  # line breaks to Python's splitlines, not to Markdown
SIGNS |= {code: f"\\u{code:04x}" for code in (*BIDI, *INVISIBLE, *LINES)}
SIGNS |= {code: f"\\U{code:08x}" for code in range(0xE0000, 0xE0080)}  # tags: text that only machines read
SURROGATE = re.compile("[\ud800-\udfff]")
TITLE_CHARACTERS = 60


def storable(text: str) -> str:
    """UTF-8 has no lone surrogates; JSON and broken models do."""
    return SURROGATE.sub("\ufffd", text)


def visible(text: str) -> str:
    return storable(text).replace("\r\n", "\n").translate(SIGNS)


def typed(text: str) -> str:
    """What was pasted or typed, without what a terminal would obey."""
    return storable(text).replace("\r\n", "\n").replace("\r", "\n").translate(TYPED_SIGNS)


def one_line(text: str, length: int = TITLE_CHARACTERS) -> str:
    words = " ".join(visible(text).split())
    return words if len(words) <= length else words[: length - 1].rstrip() + "…"


def excerpt(text: str, word: str, length: int) -> str:
    """One line of a text, so that the word can be seen in it."""
    line = one_line(text, 10**9)
    at = max(0, line.casefold().find(word.casefold()))
    start = max(0, at - length // 3)
    return one_line(("…" if start else "") + line[start:], length)


class Shown:
    """`visible` for a text that comes in pieces: a \\r at the end of one may belong to the \\n of the next."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return visible(text[:-1] if self._held else text)

    def finish(self) -> str:
        held, self._held = self._held, ""
        return visible(held)


def size(count: int, *, brief: bool = False) -> str:
    """Bytes in decimal units, as disks and macOS count them; `brief` where they change while one reads."""
    exact = 9.95 if brief else 99.95  # below it one decimal
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            number = count / factor
            return f"{number:.1f} {unit}" if number < exact and unit != "kB" else f"{number:.0f} {unit}"
    return f"{count} B"


def ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def tokens_per_second(rate: float) -> str:
    return f"{rate:.1f} tokens/s" if rate < 99.95 else f"{rate:.0f} tokens/s"
