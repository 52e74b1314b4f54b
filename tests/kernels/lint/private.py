"""What a thread keeps in private arrays, and whether all of it can lie in registers.

A GPU has no memory of its own for a thread: an array whose index is a variable when the program runs, or that is too
large, goes to device memory and back. So loops that index one must be of a known length and say `#pragma unroll`,
as MLX's do, and the arrays of a kernel and of all that it calls together must be no larger than MOST. Looks at a text
with its template arguments written in. Knows nothing of the compiler: what else it keeps in registers, what it
reuses. Needs `libclang`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from clang.cindex import CursorKind as Kind

MOST = 136  # values, where a thread has some 128 registers of 32 bits: an array or two may be reused
UNROLL = ("#pragma unroll", "MLX_MTL_PRAGMA_UNROLL")
ARRAY = re.compile(r"([^()*&]+?)((?:\[\d+\])+)")  # types as clang spells them: Python's clang knows no halves
VARIABLES = (Kind.VAR_DECL, Kind.PARM_DECL)
MATRIX = "simdgroup_matrix<"


def faults_of(kernel: Any, lines: list[str]) -> Iterator[str]:
    """Of the kernel's function and of all that it calls; `lines` are those of the parsed text."""
    held: list[tuple[str, int]] = []
    told: set[str] = set()
    waiting, seen = [kernel], {kernel.hash}
    while waiting:
        for node, loops in _nodes(waiting.pop()):
            kind = node.kind
            if kind in VARIABLES and (size := _registers(node.type.get_canonical())):
                held.append((node.spelling, size))
            elif kind == Kind.ARRAY_SUBSCRIPT_EXPR:
                told.update(_index_told(node, loops, lines))
            elif kind == Kind.CALL_EXPR and (called := node.referenced) is not None:
                told.update(_call_told(node, loops, lines))
                whole = called.get_definition()
                if whole is not None and whole.kind == Kind.FUNCTION_DECL and whole.hash not in seen:
                    seen.add(whole.hash)
                    waiting.append(whole)
    yield from sorted(told)
    if (total := sum(size for _, size in held)) > MOST:
        names = ", ".join(f"{name} {size}" for name, size in held)
        yield f"{total} values in private arrays, the limit is {MOST}: {names}"


def _nodes(function: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """All nodes, each with the loops that it stands in."""
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(function, ())]
    while waiting:
        node, loops = waiting.pop()
        yield node, loops
        inside = (*loops, node) if node.kind == Kind.FOR_STMT else loops
        waiting += [(child, inside) for child in reversed(list(node.get_children()))]


def _index_told(node: Any, loops: tuple[Any, ...], lines: list[str]) -> Iterator[str]:
    array, index = node.get_children()
    if (name := _private(array)) is None:
        return
    for variable in _variables(index):
        loop = next((one for one in loops if _induction(one) == variable.hash), None)
        if loop is not None:
            yield from _asks(loop, name, lines)
        elif not _known(variable):
            yield f"{name} is indexed by {variable.spelling}, which no unrolling makes known"


def _call_told(node: Any, loops: tuple[Any, ...], lines: list[str]) -> Iterator[str]:
    """A private array handed to a function together with a loop's variable is indexed by it there."""
    counted = {own: loop for loop in loops if (own := _induction(loop)) is not None and _counted(loop)}
    given = list(node.get_arguments()) if counted else []
    name = next((n for n in map(_private, given) if n is not None), None)
    for argument in given if name else ():
        at = _reference(argument)
        if at is not None and at.hash in counted:
            yield from _asks(counted[at.hash], str(name), lines)


def _asks(loop: Any, array: str, lines: list[str]) -> Iterator[str]:
    line = loop.location.line
    if not _counted(loop):
        yield f"{array} is indexed in a loop of unknown length: {lines[line - 1].strip()}"
    elif lines[line - 2].strip() not in UNROLL:
        yield f"no #pragma unroll for {array}: {lines[line - 1].strip()}"


def _counted(loop: Any) -> bool:
    """Whether its first and last turn are known when it is compiled."""
    start, end = list(loop.get_children())[:2]
    own = _induction(loop)
    return all(v.hash == own or _known(v) for part in (start, end) for v in _variables(part))


def _induction(loop: Any) -> int | None:
    first = next(iter(loop.get_children()))
    declared = [c for c in first.get_children() if c.kind == Kind.VAR_DECL] if first.kind == Kind.DECL_STMT else []
    return declared[0].hash if declared else None


def _variables(node: Any) -> Iterator[Any]:
    """Variables and parameters that an expression names; what stands inside of another index is that one's matter."""
    if node.kind == Kind.DECL_REF_EXPR and node.referenced is not None and node.referenced.kind in VARIABLES:
        yield node.referenced
    for child in node.get_children():
        yield from _variables(child)


def _known(variable: Any) -> bool:
    """Whether it is made of numbers, template arguments and parameters of a helper, which is inlined."""
    if variable.kind == Kind.PARM_DECL:
        return not variable.semantic_parent.spelling.startswith("custom_kernel_")
    if not variable.type.is_const_qualified():
        return False
    return all(_known(v) for child in variable.get_children() for v in _variables(child))


def _private(node: Any) -> str | None:
    """The name of the private array that an expression is, or is a part of."""
    while node.kind in (Kind.UNEXPOSED_EXPR, Kind.ARRAY_SUBSCRIPT_EXPR, Kind.PAREN_EXPR):
        node = next(iter(node.get_children()), None)
        if node is None:
            return None
    declared = node.referenced if node.kind == Kind.DECL_REF_EXPR else None
    if declared is None or declared.kind not in VARIABLES:
        return None
    kind = declared.type.get_canonical().spelling
    pointing = ("*" in kind or "&" in kind) and "address_space" not in kind
    return str(declared.spelling) if pointing or ARRAY.fullmatch(kind) else None


def _reference(node: Any) -> Any:
    while node is not None and node.kind == Kind.UNEXPOSED_EXPR:
        node = next(iter(node.get_children()), None)
    return node.referenced if node is not None and node.kind == Kind.DECL_REF_EXPR else None


def _registers(kind: Any) -> int:
    """Values of an array, or a lane's two of an 8x8 matrix; a narrow one takes a register too."""
    array = ARRAY.fullmatch(kind.spelling)
    count = math.prod(map(int, re.findall(r"\d+", array[2]))) if array else 1
    if MATRIX in kind.spelling:
        return 0 if "&" in kind.spelling else 2 * count
    return count * max(1, kind.get_size() // count // 4) if array else 0
