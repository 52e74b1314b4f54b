"""mlxrun rm MODEL: take a model off this machine."""

from __future__ import annotations

import argparse

from . import options
from .terminal import tell

HELP = "remove a model from this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)


def main(flags: argparse.Namespace) -> int:
    from ..settings import from_environment
    from ..store.remove import remove

    tell(f"{flags.model} is gone; {remove(flags.model, from_environment()) / 1e6:.0f} MB are free again.")
    return 0
