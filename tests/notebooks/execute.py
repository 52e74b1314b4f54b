"""Runs a notebook's cells in this process, as a kernel would: no Jupyter is needed for it.

    python -m tests.notebooks.execute notebooks/*.ipynb     run them and store what they put out

Knows what our notebooks use: plain Python, what is printed, and the value of a cell's last expression with its
`_repr_html_`. No magics, no top-level await, no display(). A cell that raises ends the run.
"""

from __future__ import annotations

import ast
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def read(path: Path) -> Json:
    notebook: Json = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def write(path: Path, notebook: Json) -> None:
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def code_cells(notebook: Json) -> list[Json]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: Json) -> Json:
    """The notebook with fresh outputs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    done, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            outputs = run("".join(cell["source"]), names, count)
            cell = {**cell, "execution_count": count, "outputs": outputs}
        done.append(cell)
    return {**notebook, "cells": done}


def run(source: str, names: dict[str, Any], count: int) -> list[Json]:
    tree = ast.parse(source, f"<cell {count}>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)
    outputs: list[Json] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())})
    if value is not None:
        shown = {"data": shapes(value), "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        outputs.append(shown)
    return outputs


def shapes(value: Any) -> Json:
    html = getattr(value, "_repr_html_", None)
    rich = {} if html is None else {"text/html": lines(html())}
    return {**rich, "text/plain": lines(repr(value))}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    for name in sys.argv[1:]:
        write(Path(name), execute(read(Path(name))))


if __name__ == "__main__":
    main()
