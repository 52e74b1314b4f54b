"""Every notebook runs, with the starter model, and what is stored in it is what it puts out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .execute import Json, code_cells, execute, read, run

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STEADY = ("chat", "conversation", "stream")  # cells of the quickstart whose words no rounding can change


def kinds(outputs: list[Json]) -> list[tuple[str, list[str]]]:
    return [(output["output_type"], sorted(output.get("data", ()))) for output in outputs]


def said(cell: Json) -> str:
    return "".join("".join(output.get("text") or output["data"]["text/plain"]) for output in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_its_stored_outputs_are_of_a_whole_run(path: Path, smollm2_gguf: Path) -> None:
    stored = read(path)
    fresh = execute(stored)
    assert (stored["nbformat"], stored["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in stored["cells"]}) == len(stored["cells"])
    for number, (old, new) in enumerate(zip(code_cells(stored), code_cells(fresh), strict=True), 1):
        assert old["execution_count"] == number
        assert kinds(old["outputs"]) == kinds(new["outputs"]), "".join(old["source"])
        assert "/home/" not in said(old)
        assert "/root/" not in said(old)
    for cell in code_cells(stored):
        if cell["metadata"].get("name") in STEADY:
            again = next(new for new in code_cells(fresh) if new["id"] == cell["id"])
            assert said(again) == said(cell)


def test_there_are_steady_cells() -> None:
    names = {cell["metadata"].get("name") for cell in code_cells(read(FOLDER / "01_quickstart.ipynb"))}
    assert names >= set(STEADY)


class Shown:
    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return "plain"


def test_the_cell_runner() -> None:
    names: dict[str, Any] = {"Shown": Shown}
    assert run("x = 1", names, 1) == []
    assert run("x", names, 2)[0]["data"] == {"text/plain": ["1"]}
    printed, value = run("print('a\\nb')\nShown('<b>')", names, 3)
    assert printed == {"name": "stdout", "output_type": "stream", "text": ["a\n", "b\n"]}
    assert (value["data"], value["execution_count"]) == ({"text/html": ["<b>"], "text/plain": ["plain"]}, 3)
    with pytest.raises(ZeroDivisionError):
        run("1 / 0", names, 4)
