"""Our Metal texts through clang's parser, with address spaces: what the simulator, which erases them, cannot see.
Every text that the tests of kernels run is looked at, once (`passed`).

Metal is C++ with the address space of every pointer and reference written out. Found are: pointers that go from one
space into another, those without a space, struct methods, overloads, and threadgroup memory that is declared inside
of a block. The text is the one that MLX would compile, instantiated for the call's types. Needs `libclang`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..mslsim.build import CACHE, DECLARED, INSTANTIATION
from ..mslsim.wrapper import Generated

PRELUDE = Path(__file__).with_name("prelude.h")
OWN = (PRELUDE, Path(__file__), Path(__file__).with_name("private.py"))  # what a text is judged by
SPACES = {"device", "constant", "threadgroup", "thread"}
HOST_NAME = re.compile(r"\[\[host_name\([^)]*\)\]\] ")
ATTRIBUTE = re.compile(r" \[\[\w+(?:\(\d+\))?\]\]|\[\[kernel\]\] ")
TOKEN = re.compile(r"\w+|\S")
COMMENT = re.compile(r"//.*")


def why_not() -> str:
    found = importlib.util.find_spec("clang") and importlib.util.find_spec("clang.cindex")
    return "" if found else "Address spaces are not checked: the package libclang is not there."


def faults(made: Generated) -> list[str]:
    """Everything that is wrong with a kernel's text, each as a line."""
    return [*nested(made.text), *parsed(translated(concrete(made)))]


def passed(made: Generated) -> None:
    """Raises where something is wrong; what passed is kept beside the simulator's libraries, for the next process."""
    own = [path.read_text(encoding="utf-8") for path in OWN]
    mark = CACHE / f"{hashlib.sha256(repr((made.text, own)).encode()).hexdigest()[:24]}.linted"
    if not mark.exists():
        if told := faults(made):
            raise AssertionError(f"{made.name}: {'; '.join(told)}")
        CACHE.mkdir(parents=True, exist_ok=True)
        mark.touch()


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


def translated(text: str) -> str:
    """As C++: memory of a threadgroup is a reference to somewhere in its space."""
    text = DECLARED.sub(r"threadgroup \1 (&\2)\3 = *(threadgroup \1 (*)\3)0;", text)
    return ATTRIBUTE.sub("", HOST_NAME.sub("", text))


def nested(text: str) -> Iterator[str]:
    """Threadgroup memory that is not declared in the outermost block."""
    text = COMMENT.sub("", text)
    for found in DECLARED.finditer(text):
        before = text[: found.start()]
        if before.count("{") - before.count("}") != 1:
            yield f"threadgroup memory {found[2]} is declared inside of a block"


def parsed(text: str) -> Iterator[str]:
    from clang import cindex

    from .private import faults_of  # needs clang as well

    whole = PRELUDE.read_text(encoding="utf-8") + text
    own = whole.count("\n", 0, len(whole) - len(text)) + 1  # the first line that is ours
    flags = ["-x", "c++", "-std=c++17", "-fsyntax-only", "-Wno-everything"]
    unit = cindex.Index.create().parse("kernel.cpp", flags, unsaved_files=[("kernel.cpp", whole)])
    lines = whole.splitlines()
    for one in unit.diagnostics:
        if one.severity >= cindex.Diagnostic.Error:
            yield f"{one.spelling}: {lines[one.location.line - 1].strip() if one.location.line else ''}"
    functions = set[str]()
    for declared in unit.cursor.get_children():
        if declared.location.line < own:
            continue
        for node in declared.walk_preorder():
            yield from told(node, functions, whole)
        if declared.kind == cindex.CursorKind.FUNCTION_DECL and declared.spelling.startswith("custom_kernel_"):
            yield from faults_of(declared, lines)


def told(node: Any, functions: set[str], text: str) -> Iterator[str]:
    from clang.cindex import CursorKind as Kind
    from clang.cindex import TypeKind

    if node.kind in (Kind.CXX_METHOD, Kind.CONSTRUCTOR, Kind.DESTRUCTOR, Kind.CONVERSION_FUNCTION):
        yield f"the method {node.spelling}"
    if node.kind in (Kind.FUNCTION_DECL, Kind.FUNCTION_TEMPLATE) and not node.spelling.startswith("custom_kernel_"):
        if node.spelling in functions:
            yield f"a second function {node.spelling}"
        functions.add(node.spelling)
    variables = (Kind.PARM_DECL, Kind.VAR_DECL)
    casts = (Kind.CSTYLE_CAST_EXPR, Kind.CXX_REINTERPRET_CAST_EXPR, Kind.CXX_STATIC_CAST_EXPR)
    pointing = (TypeKind.POINTER, TypeKind.LVALUEREFERENCE, TypeKind.RVALUEREFERENCE)
    if node.kind in (*variables, *casts) and node.type.kind in pointing:
        start, end = node.extent.start.offset, node.extent.end.offset
        words = TOKEN.findall(text[text.rfind("\n", 0, start) : start])[-1:] + TOKEN.findall(text[start:end])
        if not SPACES & set(words) and ("*" in words or "&" in words):  # a keyword in front is not part of the node
            yield f"no address space: {text[start:end]}"
