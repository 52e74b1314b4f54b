"""mlxrun rm MODEL: take a model off this machine, and say what of it went."""

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
    from .show import size

    gone = remove(flags.model, from_environment())
    if gone.left is not None:
        tell(f"What was made of {flags.model} is gone; {size(gone.made)} are free again.")
        tell(f"The model itself is no part of mlxrun's store and was left: {gone.left}")
        return 0
    made = f", {size(gone.made)} of it of what was made of the model" if gone.made else ""
    tell(f"{flags.model} is gone; {size(gone.model + gone.made)} are free again{made}.")
    return 0
