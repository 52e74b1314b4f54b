"""mlxrun list: the models on this machine."""

from __future__ import annotations

import argparse

from ..spec import one_line
from .terminal import tell

HELP = "list the models on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults()


def main(flags: argparse.Namespace) -> int:
    from ..settings import from_environment
    from ..store.resolve import installed

    rows = [
        (one_line(name), str(place) if place else "not here yet; fetched when first used")
        for name, place in installed(from_environment())
    ]
    width = max(len(name) for name, _ in rows)
    tell(*(f"{name:{width}}  {place}" for name, place in rows))
    return 0
