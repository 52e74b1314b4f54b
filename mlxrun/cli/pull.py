"""mlxrun pull MODEL: bring a model to this machine and say where it is."""

from __future__ import annotations

import argparse
import sys

from ..spec import one_line
from . import options

HELP = "bring a model to this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)


def main(flags: argparse.Namespace) -> int:
    from ..store.resolve import resolve

    place = str(resolve(flags.model))
    print(one_line(place) if sys.stdout.isatty() else place)  # a program finds the file by it
    return 0
