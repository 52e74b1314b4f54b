"""Which names a Metal text declares where another text could see them, and which it replaces. By its braces, no parser:
parameters, members and what stands inside of functions are nobody else's."""

from __future__ import annotations

import re

SKIPPED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
OPEN = re.compile(r"\bnamespace\s*(?:metal)?\s*$")  # what is inside can be seen from outside
ENUM = re.compile(r"\benum(?:\s+\w+)?\s*(?::\s*\w+\s*)?\{([^}]*)\}")  # one without a class shows its values
TEMPLATE = re.compile(r"\btemplate\s*<[^{};]*?>\s*(?=\w)")
DECLARED = (
    r"\b(?:struct|class|enum|union)\s+(?!class\b)(\w+)",
    r"\busing\s+(\w+)\s*=",
    r"\btypedef\s[^;]*?(\w+)\s*;",
    r"\b(?:constant|constexpr)\s[^;(]*?(\w+)\s*(?:\[[^\]]*\]\s*)*=",
    r"[\w>&*]\s+[*&]*(\w+)\s*\([^;{}]*\)\s*(?:const\s*)?(?:thread\s*)?[{;]",
)


def plain(text: str) -> str:
    """Without comments, and without lines for the preprocessor."""
    text = SKIPPED.sub(" ", text)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.MULTILINE)


def outermost(text: str) -> str:
    """What stands in no braces, but for those of a namespace that everybody sees."""
    kept, depth, opened, begun = [], 0, list[bool](), 0
    for place, letter in enumerate(text):
        if letter == "{":
            through = depth == 0 and bool(OPEN.search(text[begun:place]))
            opened.append(through)
            if not through:
                if depth == 0:
                    kept.append("{")
                depth += 1
        elif letter == "}" and opened:
            depth -= not opened.pop()
        elif depth == 0:
            kept.append(letter)
        if letter in "{};":
            begun = place + 1
    return "".join(kept)


def declared(text: str) -> set[str]:
    seen = TEMPLATE.sub("", outermost(plain(text)))
    found = {name for pattern in DECLARED for name in re.findall(pattern, seen)} - {"operator", "sizeof"}
    for values in ENUM.findall(plain(text)):
        found |= set(re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", values.strip()))
    return found


def macros(text: str) -> set[str]:
    return set(re.findall(r"^[ \t]*#\s*define\s+(\w+)", SKIPPED.sub(" ", text), re.MULTILINE))


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", SKIPPED.sub(" ", text)))
