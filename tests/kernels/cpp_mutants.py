"""Mutants of C++ texts: an operator, a constant, a bound or a word changed, a statement dropped, two arguments swapped.

Works line by line on this project's own style: two-sided operators stand between spaces, those of types do not.
What does not compile is no mutant, so a wrong guess costs a compilation and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from . import mutants
from .mutants import Mutant

WORDS = {
    "true": "false",
    "false": "true",
    "min": "max",
    "max": "min",
    "continue": "break",
    "vmin": "vmax",
    "vmax": "vmin",
    "add": "sub",
    "sub": "add",
}
BETWEEN = mutants.SWAPS | {"&&": ("||",), "||": ("&&",), "|=": ("=",), "&=": ("=",), "*=": ("=",), "-=": ("+=",)}
HIDDEN = re.compile(
    r'//.*|^\s*#.*| ?[+-]? ?"(?:\\.|[^"])*"(?: \+)?|\'(?:\\.|[^\'])+\''
    r"|alignas\(\d+\)|memory_order_\w+|std::(?:max|min|clamp)<\w+>"
)
TOKEN = re.compile(
    r"(?<= )(?:&&|\|\||<<|>>|[-+|&*]=|[<>=!]=|[-+*/%<>&|])(?= )|!(?=[\w(*])|\b(?:0x[0-9a-f]+|\d+\.\d+f|\d+|[a-z]\w*)\b"
)
DECLARES = re.compile(
    r"(?:const|constexpr|auto|int|u?int\d+_t|size_t|float|double|bool|char|unsigned|long|static|using|template|typename"
    r"|struct|class|enum|return|extern|alignas|explicit|case|default|public|private|namespace|inline|throw|UNROLL"
    r"|std::\w[\w:]*(?:<.*>)?[&*]* \w|mx::\w[\w:]*[&*]? \w|[A-Z]\w*(?:<[^;]*>)?[&*]* [\w*]+\b(?! [-+*/|&]?=)|~)"
    r"(?![\w(])?"
)
CALL = re.compile(r"([\w>\])]+)\(")
COMMUTES = re.compile(r"\b(?:i?add|mul|bor|v?min|v?max|_mm\w*_(?:add|mul|and|or|max|min)_\w+)$")
TYPED = re.compile(r"\bstd::(?:min|max)<\w+>$")  # of either order too
FACTORS_FIRST = re.compile(r"\b(?:fma|_mm\w*_fmadd_\w+)$")  # only the first two commute
PAIR = re.compile(r"\[([^][]+)\]\[([^][]+)\]")
PARAMETER = re.compile(r"^\s*(?:const )?[\w:<>, ]+[&*]* ?[&*]*\w+ \w+$|[\w>][&*]+ \w+$|^(?:const )?[\w:]+ \w+$")


def mutants_of(name: str, path: Path) -> Iterator[Mutant]:
    before = ""
    for number, line in mutants.lines(path):
        seen = set()
        for after in (*changed(line), *dropped(line, before), *swapped(line)):
            if after not in seen:
                seen.add(after)
                yield Mutant(name, number, line, after)
        if line.strip():
            before = line.split("//")[0].rstrip()


def changed(line: str) -> Iterator[str]:
    hidden = [m.span() for m in HIDDEN.finditer(line)]
    for token in TOKEN.finditer(line):
        if any(a <= token.start() < b for a, b in hidden):
            continue
        text = token.group()
        news = ("",) if text == "!" else mutants.changes_of_number(text) or BETWEEN.get(text, ())
        for new in (*news, *((WORDS[text],) if text in WORDS else ())):
            yield line[: token.start()] + new + line[token.end() :]


def dropped(line: str, before: str) -> Iterator[str]:
    """A whole statement that stands on one line, or one of several with commas between them."""
    code = line.split("//")[0].rstrip()
    whole = code.strip()
    if not whole.endswith(";") or whole == ";" or DECLARES.match(whole) or not balanced(whole):
        return
    if before and before[-1] not in ";{}):" and not before.endswith("else"):
        return  # it goes on from the line before
    start = len(code) - len(whole)
    head = re.match(r"(?:if|for|while) \(|else ", whole)
    if head is None:
        parts = split(whole[:-1])
        for i in range(len(parts)):
            yield code[:start] + ", ".join(p.strip() for p in parts[:i] + parts[i + 1 :]) + ";"
    elif " else " not in whole:
        yield code[:start] + ";"
        if whole.startswith("if (") and whole.count("if (") == 1:
            close = closing(whole, 3)
            yield f"{code[:start]}if (!({whole[4:close]})){whole[close + 1 :]}"


def swapped(line: str) -> Iterator[str]:
    code = line.split("//")[0]
    for call in CALL.finditer(code):
        end = closing(code, call.end() - 1)
        parts = split(code[call.end() : end]) if end > 0 else []
        alike = COMMUTES.search(call.group(1)) or TYPED.search(code[: call.end() - 1])
        if len(parts) < 2 or alike or any(PARAMETER.search(p.strip()) for p in parts):
            continue
        for i in range(bool(FACTORS_FIRST.search(call.group(1))), len(parts) - 1):
            one, other = parts[i].strip(), parts[i + 1].strip()
            if one != other and not {one[:1], other[:1]} & {'"', "[", ""}:
                news = [p.strip() for p in parts]
                news[i], news[i + 1] = other, one
                yield code[: call.end()] + ", ".join(news) + code[end:]
    for pair in PAIR.finditer(code):
        if pair.group(1) != pair.group(2):
            yield f"{code[: pair.start()]}[{pair.group(2)}][{pair.group(1)}]{code[pair.end() :]}"


def balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def closing(text: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    return -1


def split(text: str) -> list[str]:
    """At the commas that stand in no bracket."""
    parts, depth, begin = [], 0, 0
    for i, sign in enumerate(text):
        angle = sign in "<>" and not (text[i - 1 : i] in " -" or text[i + 1 : i + 2] in " =")
        depth += (sign in "([{") - (sign in ")]}") + ((sign == "<") - (sign == ">") if angle else 0)
        if sign == "," and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return [*parts, text[begin:]]
