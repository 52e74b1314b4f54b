"""Sizes and habits, held by reading the source. To raise a limit, edit the list here: then it shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 7  # self and cls not counted
TWICE = {"Packed": "stands in for the native library's own where there is none"}
MAP_RULES = 1  # GGUF holds -exp(A_log)

# file, or file:function -> why it may be larger
LONGER_FILES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}
MORE_PARAMETERS: dict[str, str] = {}

# file:function -> why it must survive everything
CATCHES_ALL: dict[str, str] = {
    "mlxrun/text/hub.py:reading": "tokenizers raises plain Exception for every bad file, and panics on some",
    "mlxrun/engine/engine.py:live": "what loading raises is raised again, to who waits for the thread",
    "mlxrun/engine/engine.py:_step": "one request ends, the thread lives on",
    "mlxrun/engine/mask_worker.py:run": "what a matcher raises is raised again, to who waits for it",
    "mlxrun/engine/idle_work.py:ran_well": "what can wait ends, the thread lives on",
    "mlxrun/engine/admission.py:_begin": "one request ends, the thread lives on",
    "mlxrun/convert/aside.py:write_aside": "what interrupts the making is raised again; the half made goes away",
    "mlxrun/convert/names.py:named": "other people's classes raise anything, SystemExit included",
    "mlxrun/convert/calibrated.py:watched": "other people's functions raise anything",
    "mlxrun/loading/fallback.py:load_fallback": "other people's loaders raise anything, SystemExit included",
}

# a class name that stands in one of these stands nowhere else

REASONLESS = re.compile(r"#\s*(noqa(?!: [A-Z]+[0-9]+ \S)|type:\s*ignore(?!\[[\w, -]+\]\s+# \S))", re.I)


def files() -> Iterator[tuple[str, str]]:
    for top in ("mlxrun", "tui", "metal_kernels", "cpu_kernels"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    a = function.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg)))]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def broad_handlers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(innermost function, line) of every `except:`, `except Exception` and `except BaseException`."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.ExceptHandler):
                kinds = ast.unparse(child.type) if child.type else "Exception"
                if re.search(r"\b(Base)?Exception\b", kinds):
                    yield inside, child.lineno
            yield from walk(child, child.name if named else inside)

    return walk(tree, "<module>")


def test_files_are_short() -> None:
    long = {f: n for f, text in files() if (n := text.count("\n")) > FILE_LINES and f not in LONGER_FILES}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{file}:{f.name}": lines
        for file, text in files()
        for f in functions(ast.parse(text))
        if (lines := f.end_lineno - f.lineno + 1) > FUNCTION_LINES and f"{file}:{f.name}" not in LONGER_FUNCTIONS
    }
    assert not long


def test_functions_take_few_parameters() -> None:
    many = {
        f"{file}:{f.name}": parameters(f)
        for file, text in files()
        for f in functions(ast.parse(text))
        if parameters(f) > PARAMETERS and f"{file}:{f.name}" not in MORE_PARAMETERS
    }
    assert not many


def test_nothing_is_global() -> None:
    found = [f"{f}:{n.lineno}" for f, text in files() for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Global)]
    assert not found


def test_only_the_listed_loops_catch_everything() -> None:
    found = [
        f"{file}:{line} in {function}"
        for file, text in files()
        for function, line in broad_handlers(ast.parse(text))
        if f"{file}:{function}" not in CATCHES_ALL
    ]
    assert not found


def test_exemptions_tell_their_reason() -> None:
    found = [
        f"{file}:{number}: {line.strip()}"
        for file, text in files()
        for number, line in enumerate(text.splitlines(), 1)
        if REASONLESS.search(line)
    ]
    assert not found, "write '# noqa: CODE why' or '# type: ignore[code]  # why'"


def test_the_escape_hatch_of_the_weight_rules_is_rare() -> None:
    used = [
        f"{file}:{n.lineno}"
        for file, text in files()
        if file.startswith("mlxrun/families/")
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Call) and ast.unparse(n.func) in ("Map", "rules.Map")
    ]
    assert len(used) <= MAP_RULES, used


def test_lists_of_exceptions_are_current() -> None:
    names = {f for f, _ in files()} | {f"{file}:{f.name}" for file, text in files() for f in functions(ast.parse(text))}
    listed = {*LONGER_FILES, *LONGER_FUNCTIONS, *MORE_PARAMETERS, *CATCHES_ALL}
    assert listed <= names, f"no longer exist: {sorted(listed - names)}"


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for file, text in files():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(file)
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in TWICE}
    assert not twice


def test_the_reader_of_habits() -> None:
    tree = ast.parse(
        "def f(self, a, *b, c=1, **d):\n try: pass\n except (OSError, Exception): pass\n except KeyError: pass"
    )
    assert [parameters(f) for f in functions(tree)] == [4]
    assert list(broad_handlers(tree)) == [("f", 3)]
    assert REASONLESS.search("x = 1  # no" + "qa")
    assert REASONLESS.search("x = 1  # type: ig" + "nore[arg-type]")
    assert not REASONLESS.search("x = 1  # no" + "qa: BLE001 the thread must live")
    assert not REASONLESS.search("x = 1  # type: ig" + "nore[arg-type]  # the stub is wrong")
