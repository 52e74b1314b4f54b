"""Mutants of Python texts, made where the syntax tree says that something stands: operators, comparisons, constants,
conditions taken as false, statements dropped, neighbouring arguments swapped. Annotations and texts stay.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .mutants import Mutant

COMPARE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "in": "not in", "not in": "in"}
COMPARE |= {"is": "is not", "is not": "is"}
ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "//", "<<": ">>", ">>": "<<", "|": "&", "&": "|"}
BOOLEAN = {"and": "or", "or": "and"}
CALLED = {"min": "max", "max": "min", "all": "any", "any": "all"}
SIGN = re.compile(r"not in\b|is not\b|in\b|is\b|and\b|or\b|//|<<|>>|[<>=!]=|[-+*/%<>|&]")


def mutants_of(name: str, path: Path) -> Iterator[Mutant]:
    text = path.read_text()
    lines, seen = text.splitlines(), set[tuple[int, str]]()
    for begin, end, new in changes(ast.parse(text), lines):
        if begin[0] != end[0]:
            continue  # an edit is of one line
        line = lines[begin[0] - 1]
        after = line[: begin[1]] + new + line[end[1] :]
        if after != line and (begin[0], after) not in seen:
            seen.add((begin[0], after))
            yield Mutant(name, begin[0], line, after)


Place = tuple[int, int]
Change = tuple[Place, Place, str]


def first(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.col_offset


def last(node: ast.expr | ast.stmt) -> Place:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def changes(node: ast.AST, lines: list[str]) -> Iterator[Change]:
    """Columns are those of ASCII lines, which these modules have."""
    yield from own(node, lines)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not docstring and not isinstance(child, ast.JoinedStr | ast.ImportFrom):
                yield from changes(child, lines)


def own(node: ast.AST, lines: list[str]) -> Iterator[Change]:
    match node:
        case ast.Compare():
            for a, b in zip([node.left, *node.comparators], node.comparators, strict=False):
                yield from between(a, b, COMPARE, lines)
        case ast.BinOp():
            yield from between(node.left, node.right, ARITHMETIC, lines)
        case ast.BoolOp():
            for a, b in zip(node.values, node.values[1:], strict=False):
                yield from between(a, b, BOOLEAN, lines)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield first(node), first(node.operand), ""
        case ast.Constant(value=bool()):
            yield first(node), last(node), str(not node.value)
        case ast.Constant(value=int()):
            yield first(node), last(node), str(node.value + 1)
            if node.value > 1:
                yield first(node), last(node), str(node.value - 1)
        case ast.Constant(value=float()):
            yield first(node), last(node), repr(node.value * 1.5 + 0.5)
        case ast.If() | ast.IfExp() | ast.While():
            yield first(node.test), last(node.test), "False"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield first(node), last(node), "pass"
        case ast.Call():
            yield from of_call(node, lines)


def of_call(node: ast.Call, lines: list[str]) -> Iterator[Change]:
    if isinstance(node.func, ast.Name) and node.func.id in CALLED:
        yield first(node.func), last(node.func), CALLED[node.func.id]
        return  # the order of their arguments does not matter
    for a, b in zip(node.args, node.args[1:], strict=False):
        one, other = text_of(a, lines), text_of(b, lines)
        if a.lineno == b.end_lineno and one != other and not isinstance(a, ast.Starred) and '"' not in one + other:
            middle = lines[a.lineno - 1][last(a)[1] : first(b)[1]]
            yield first(a), last(b), f"{other}{middle}{one}"


def text_of(node: ast.expr, lines: list[str]) -> str:
    return lines[node.lineno - 1][node.col_offset : node.end_col_offset] if node.lineno == node.end_lineno else ""


def between(a: ast.expr, b: ast.expr, swaps: dict[str, str], lines: list[str]) -> Iterator[Change]:
    begin, end = last(a), first(b)
    if begin[0] == end[0] and (sign := SIGN.search(lines[begin[0] - 1], begin[1], end[1])) and sign.group() in swaps:
        yield (begin[0], sign.start()), (begin[0], sign.end()), swaps[sign.group()]
