"""Every public function has an example, which does what it says; docs/python.md is made of them."""

from __future__ import annotations

import asyncio
import doctest
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import mlxrun
from docs import python_page
from mlxrun.client import Client
from mlxrun.client.options import AnswerOptions, Options

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = python_page.functions()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def model(smollm2_gguf: Path) -> Iterator[Client]:
    with mlxrun.load("smollm2") as own:
        yield own


@pytest.mark.parametrize("name", PUBLIC)
def test_it_does_what_its_example_says(name: str, model: Client) -> None:
    names = {"mlxrun": mlxrun, "model": model, "asyncio": asyncio}
    found = doctest.DocTestFinder(recurse=False).find(PUBLIC[name], name, globs=names)
    assert [test for test in found if test.examples], f"{name} has no example"
    told: list[str] = []
    for test in found:
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    assert not told, "".join(told)


def test_the_page_is_made_of_them() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert page == python_page.page(), "make python-doc writes it anew"


def test_every_option_has_its_name() -> None:
    assert [field.name for field in fields(Options)] == list(AnswerOptions.__annotations__)
