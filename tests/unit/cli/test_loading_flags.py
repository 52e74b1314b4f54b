"""The flag that lets a class of mlx-lm run unchecked reaches loading."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from mlxrun.cli import eval as evaluation
from mlxrun.cli import options, run, serve
from mlxrun.core import KeyBits
from mlxrun.settings import Settings


@pytest.mark.parametrize("command", [run, serve])
@pytest.mark.parametrize("unchecked", [False, True])
def test_what_loading_is_told(command: Any, unchecked: bool) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    flags = parser.parse_args(["somewhere", *(["--unchecked"] if unchecked else [])])
    assert options.load_options(flags, Settings(home=Path("nowhere"))).unchecked is unchecked


@pytest.mark.parametrize("command", [run, serve])
@pytest.mark.parametrize(("wanted", "told"), [(None, (None, 0)), (5000, (Path("home/prefixes"), 5000))])
def test_prefixes_go_to_disk_where_that_was_asked_for(command: Any, wanted: int | None, told: object) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    found = options.load_options(parser.parse_args(["somewhere"]), Settings(home=Path("home"), prefix_disk=wanted))
    assert (found.prefixes, found.prefix_bytes) == told


@pytest.mark.parametrize("command", [run, serve])
@pytest.mark.parametrize(
    ("given", "set_to", "told"), [((), 16, 16), ((), 8, 8), (("--kv-bits", "8"), 16, 8), (("--kv-bits", "16"), 8, 16)]
)
def test_bits_of_keys_and_values(command: Any, given: tuple[str, ...], set_to: KeyBits, told: int) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    settings = Settings(home=Path("home"), kv_bits=set_to)
    assert options.load_options(parser.parse_args(["somewhere", *given]), settings).kv_bits == told


def test_eval_has_it_too() -> None:
    parser = argparse.ArgumentParser()
    evaluation.configure(parser)
    assert parser.parse_args(["somewhere", "--unchecked"]).unchecked is True
