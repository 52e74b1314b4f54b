"""The flag that lets a class of mlx-lm run unchecked reaches loading."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from mlxrun.cli import eval as evaluation
from mlxrun.cli import options, run, serve
from mlxrun.settings import Settings


@pytest.mark.parametrize("command", [run, serve])
@pytest.mark.parametrize("unchecked", [False, True])
def test_what_loading_is_told(command: Any, unchecked: bool) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    flags = parser.parse_args(["somewhere", *(["--unchecked"] if unchecked else [])])
    assert options.load_options(flags, Settings(home=Path("nowhere"))).unchecked is unchecked


def test_eval_has_it_too() -> None:
    parser = argparse.ArgumentParser()
    evaluation.configure(parser)
    assert parser.parse_args(["somewhere", "--unchecked"]).unchecked is True
