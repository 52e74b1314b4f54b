"""What a thread keeps in private arrays, and whether all of it can lie in registers.

A GPU has no memory of its own for a thread: an array whose index is a variable when the program runs, or that is too
large, goes to device memory and back. So loops that index one must be of a known length and say `#pragma unroll`,
as MLX's do, and the arrays of a kernel and of all that it calls together must be no larger than MOST. Looks at a text
with its template arguments written in. Knows nothing of the compiler: what else it keeps in registers, what it reuses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ..mslsim.build import INSTANTIATION
from ..mslsim.wrapper import Generated

MOST = 136  # values, where a thread has some 128 registers of 32 bits: an array or two may be reused
UNROLL = ("#pragma unroll", "MLX_MTL_PRAGMA_UNROLL")
ARRAY = re.compile(r"([^()*&]+?)((?:\[\d+\])+)")  # types as clang spells them: Python's clang knows no halves
MATRIX = "simdgroup_matrix<"


def concrete(made: Generated) -> str:
    """The text with the kernel's template arguments written in, so that all types are known."""
    text = INSTANTIATION.sub("\n", made.text)
    head = re.search(rf"template <([^>]*)>\n(?=\[\[kernel\]\] void {re.escape(made.name)}\b)", text)
    if not head:
        return text
    values = made.template.strip("<>").split(", ")
    written = (
        f"using {name} = {value};\n" if kind == "typename" else f"constexpr {kind} {name} = {value};\n"
        for (kind, name), value in zip((p.split() for p in head[1].split(", ")), values, strict=True)
    )
    return text[: head.start()] + "".join(written) + text[head.end() :]


def faults_of(kernel: Any, lines: list[str]) -> Iterator[str]:
    """Of the kernel's function and of all that it calls; `lines` are those of the parsed text."""
    held: dict[str, int] = {}
    told: set[str] = set()
    for function in _reached(kernel, set()):
        for node, loops in _nodes(function, ()):
            if _is_variable(node) and (size := _registers(node.type.get_canonical())):
                held[f"{function.spelling}:{node.location.line}:{node.spelling}"] = size
            told.update(_loops_told(node, loops, lines))
    yield from sorted(told)
    if (total := sum(held.values())) > MOST:
        names = ", ".join(f"{name.split(':')[2]} {size}" for name, size in held.items())
        yield f"{total} values in private arrays, the limit is {MOST}: {names}"


def _reached(function: Any, seen: set[int]) -> Iterator[Any]:
    from clang.cindex import CursorKind as Kind

    seen.add(function.hash)
    yield function
    for node, _ in _nodes(function, ()):
        if node.kind == Kind.CALL_EXPR and (called := node.referenced) is not None:
            whole = called.get_definition()
            if whole is not None and whole.hash not in seen and whole.kind == Kind.FUNCTION_DECL:
                yield from _reached(whole, seen)


def _nodes(node: Any, loops: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """All nodes, each with the loops that it stands in."""
    from clang.cindex import CursorKind as Kind

    for child in node.get_children():
        yield child, loops
        yield from _nodes(child, (*loops, child) if child.kind == Kind.FOR_STMT else loops)


def _loops_told(node: Any, loops: tuple[Any, ...], lines: list[str]) -> Iterator[str]:
    from clang.cindex import CursorKind as Kind

    if node.kind == Kind.ARRAY_SUBSCRIPT_EXPR:
        array, index = node.get_children()
        if (name := _private(array)) is None:
            return
        for variable in _variables(index):
            loop = next((one for one in loops if _induction(one) == variable.hash), None)
            if loop is not None:
                yield from _asks(loop, name, lines)
            elif not _known(variable):
                yield f"{name} is indexed by {variable.spelling}, which no unrolling makes known"
    elif node.kind == Kind.CALL_EXPR:
        given = list(node.get_arguments())
        name = next((n for n in map(_private, given) if n is not None), None)
        for argument in given if name else ():
            at = _reference(argument)
            loop = next((one for one in loops if at is not None and _induction(one) == at.hash), None)
            if loop is not None and _counted(loop):
                yield from _asks(loop, str(name), lines)


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
    from clang.cindex import CursorKind as Kind

    first = next(iter(loop.get_children()))
    declared = [c for c in first.get_children() if c.kind == Kind.VAR_DECL] if first.kind == Kind.DECL_STMT else []
    return declared[0].hash if declared else None


def _variables(node: Any) -> Iterator[Any]:
    """Variables and parameters that an expression names; what stands inside of another index is that one's matter."""
    from clang.cindex import CursorKind as Kind

    if node.kind == Kind.DECL_REF_EXPR and node.referenced is not None and _is_variable(node.referenced):
        yield node.referenced
    for child in node.get_children():
        yield from _variables(child)


def _known(variable: Any) -> bool:
    """Whether it is made of numbers, template arguments and parameters of a helper, which is inlined."""
    from clang.cindex import CursorKind as Kind

    if variable.kind == Kind.PARM_DECL:
        return not variable.semantic_parent.spelling.startswith("custom_kernel_")
    if not variable.type.is_const_qualified():
        return False
    return all(_known(v) for child in variable.get_children() for v in _variables(child))


def _private(node: Any) -> str | None:
    """The name of the private array that an expression is, or is a part of."""
    from clang.cindex import CursorKind as Kind

    while node.kind in (Kind.UNEXPOSED_EXPR, Kind.ARRAY_SUBSCRIPT_EXPR, Kind.PAREN_EXPR):
        node = next(iter(node.get_children()), None)
        if node is None:
            return None
    declared = node.referenced if node.kind == Kind.DECL_REF_EXPR else None
    if declared is None or not _is_variable(declared):
        return None
    kind = declared.type.get_canonical().spelling
    pointing = ("*" in kind or "&" in kind) and "address_space" not in kind
    return str(declared.spelling) if pointing or ARRAY.fullmatch(kind) else None


def _reference(node: Any) -> Any:
    from clang.cindex import CursorKind as Kind

    while node is not None and node.kind == Kind.UNEXPOSED_EXPR:
        node = next(iter(node.get_children()), None)
    return node.referenced if node is not None and node.kind == Kind.DECL_REF_EXPR else None


def _is_variable(node: Any) -> bool:
    from clang.cindex import CursorKind as Kind

    return node.kind in (Kind.VAR_DECL, Kind.PARM_DECL)


def _registers(kind: Any) -> int:
    """Values of an array, or a lane's two of an 8x8 matrix; a narrow one takes a register too."""
    array = ARRAY.fullmatch(kind.spelling)
    count = math.prod(map(int, re.findall(r"\d+", array[2]))) if array else 1
    if MATRIX in kind.spelling:
        return 0 if "&" in kind.spelling else 2 * count
    return count * max(1, kind.get_size() // count // 4) if array else 0
