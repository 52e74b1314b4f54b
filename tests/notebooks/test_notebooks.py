"""Every notebook's stored outputs are of a whole run by Jupyter's kernel, small, and of no machine in particular.

The quickstart is run here; all of them by `make notebooks`, which CI does, or with MLXRUN_TEST_ALL=1.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import mlxrun
from mlxrun.client.notebook import ChatCells

from .execute import execute, read, write, write_html

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STEADY = ("chat", "conversation", "stream")  # cells of the quickstart whose words no rounding can change
MOST = 120_000  # bytes of a notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(outputs: Any) -> list[tuple[str, list[str]]]:
    return [(output.output_type, sorted(output.get("data", ()))) for output in outputs]


def said(cell: Any) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored(path: Path) -> None:
    stored = read(path)
    nbformat.validate(stored)
    assert path.stat().st_size < MOST
    assert len({cell.id for cell in stored.cells}) == len(stored.cells)
    assert stored.cells[0].source.startswith("# ")
    assert [cell.execution_count for cell in code_cells(stored)] == [*range(1, 1 + len(code_cells(stored)))]
    for cell in code_cells(stored):
        assert not any(output.output_type == "error" for output in cell.outputs)
        for private in ("/home/", "/root/", "/tmp/", "site-packages"):
            assert private not in said(cell) + cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, smollm2_gguf: Path) -> None:
    if path.stem != "01_quickstart" and not os.environ.get("MLXRUN_TEST_ALL"):
        pytest.skip("`make notebooks` runs it, or MLXRUN_TEST_ALL=1")
    stored, fresh = read(path), execute(read(path))
    for old, new in zip(code_cells(stored), code_cells(fresh), strict=True):
        assert kinds(old.outputs) == kinds(new.outputs), old.source
        if old.metadata.get("name") in STEADY:
            assert said(old) == said(new)


def test_there_are_steady_cells() -> None:
    names = {cell.metadata.get("name") for cell in code_cells(read(FOLDER / "01_quickstart.ipynb"))}
    assert names >= set(STEADY)


def test_a_cell_that_raises_ends_the_run_and_a_text_in_pieces_is_one_output(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell
    pieces = "for word in 'a b c d'.split():\n    print(word, end='', flush=True)"
    done = execute(nbformat.v4.new_notebook(cells=[cell(pieces)]))
    assert [output.text for output in done.cells[0].outputs] == ["abcd"]
    write(tmp_path / "n.ipynb", done)
    write_html(tmp_path / "n.html", read(tmp_path / "n.ipynb"))
    assert "abcd" in (tmp_path / "n.html").read_text()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute(nbformat.v4.new_notebook(cells=[cell("1 / 0")]))


class Shell:
    """As much of IPython as a cell magic meets."""

    def __init__(self, **names: Any) -> None:
        self.user_ns, self.magics = names, {}

    def register_magic_function(self, function: Any, kind: str, name: str) -> None:
        self.magics[kind, name] = function


def test_chat_cells(smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    place = SimpleNamespace(update=shown.append)
    monkeypatch.setattr("IPython.display.display", lambda thing, **how: shown.append(thing) or place)
    with mlxrun.load(str(smollm2_gguf)) as model:
        shell = Shell(model=model)
        mlxrun.load_ipython_extension(shell)
        chat = shell.magics["cell", "chat"]
        assert isinstance(chat, ChatCells)
        chat("--model model --temperature 0 --max-tokens 20", "What is the capital of France?\n")
        assert shell.user_ns["_reply"].text == "The capital of France is Paris."
        assert shown[-1] is shell.user_ns["_reply"]
        chat("--temperature 0 --max-tokens 1", "And of Italy?")
        assert shell.user_ns["_reply"].usage.prompt_tokens > 50  # it knows what was said
        chat("--new --max-tokens 1", "Hi")
        assert shell.user_ns["_reply"].usage.prompt_tokens < 40
        before = shell.user_ns["_reply"]
        for line, told in (("--fly", "unrecognized arguments"), ("--temperature -1", "temperature must be")):
            chat(line, "Hi")
            assert told in shown[-1].data
        assert shell.user_ns["_reply"] is before
