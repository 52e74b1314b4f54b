"""Flags that several commands share, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import Sampling

TEMPERATURE = 0.7  # where neither a flag nor the model's authors say


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="smollm2, a folder, a .gguf file, or org/name of the hub")


def add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--waive", metavar="KEY", action="append", default=[], help="go on without this config.json key (repeatable)"
    )
    parser.add_argument(
        "--dialect", choices=("hf", "mlx"), help="how the weights are laid out, where the files say it wrongly"
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=float, metavar="T", help="0: always the likeliest token")
    parser.add_argument("--top-p", type=float, metavar="P", help="only the likeliest tokens that make up this share")
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    parser.add_argument("--min-p", type=float, metavar="P", help="only tokens this likely relative to the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer")


def sampling(flags: argparse.Namespace, recommended: Mapping[str, Any]) -> Sampling:
    """Flags over what the model's authors recommend in generation_config.json."""
    values: dict[str, Any] = {"temperature": TEMPERATURE}
    for name in ("temperature", "top_p", "top_k", "min_p"):
        value = recommended.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = value
    given = {name: getattr(flags, name) for name in ("temperature", "top_p", "top_k", "min_p", "seed")}
    return Sampling(**(values | {name: value for name, value in given.items() if value is not None}))


def recommended(path: Path) -> Mapping[str, Any]:
    from ..text.folder import read_json

    return read_json(path / "generation_config.json") if path.is_dir() else {}
