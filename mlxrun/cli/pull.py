"""mlxrun pull MODEL: bring a model to this machine and say where it is."""

from __future__ import annotations

import argparse

from . import options

HELP = "bring a model to this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)


def main(flags: argparse.Namespace) -> int:
    from ..store.resolve import resolve

    print(resolve(flags.model))
    return 0
