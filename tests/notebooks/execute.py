"""Runs notebooks in Jupyter's own kernel, stores what they put out, and makes HTML of them to be looked at.

    python -m tests.notebooks.execute notebooks/*.ipynb                      run them and store their outputs
    python -m tests.notebooks.execute --html build/notebooks notebooks/*     and write HTML beside

A cell that raises ends the run. Streams are joined, so a text that was printed token by token is one output.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600  # for a cell


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def execute(notebook: Any) -> Any:
    """The notebook with fresh outputs. It runs at the top of the repository, where `tests` can be imported."""
    resources = {"metadata": {"path": str(ROOT)}}
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")  # nobody else may listen
    NotebookClient(notebook, kernel, timeout=SECONDS, resources=resources, coalesce_streams=True).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def write(path: Path, notebook: Any) -> None:
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def write_html(path: Path, notebook: Any) -> None:
    from nbconvert import HTMLExporter

    path.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--html", type=Path, metavar="FOLDER")
    flags = parser.parse_args()
    for path in flags.notebooks:
        began = time.monotonic()
        notebook = execute(read(path))
        write(path, notebook)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
        if flags.html is not None:
            flags.html.mkdir(parents=True, exist_ok=True)
            write_html(flags.html / f"{path.stem}.html", notebook)


if __name__ == "__main__":
    main()
