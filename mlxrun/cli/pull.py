"""mlxrun pull MODEL: bring a model to this machine and say where it is."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..spec import ModelError, one_line
from . import options

if TYPE_CHECKING:
    from ..store.arriving import Coming

HELP = "bring a model to this machine"
EVERY = 0.5  # seconds between two lines


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--json", action="store_true", help="tell how far it is in lines of JSON, for programs")


def main(flags: argparse.Namespace) -> int:
    from ..store.resolve import resolve

    if flags.json:
        return told(flags.model)
    place = str(resolve(flags.model))
    print(one_line(place) if sys.stdout.isatty() else place)  # a program finds the file by it
    return 0


def told(model: str) -> int:
    """{"completed", "total", "digest"} now and then, at last {"place"}, or {"error"} with a sentence."""
    from ..store.arriving import Arriving
    from ..store.resolve import resolve

    ended = threading.Event()

    def watch(own: Arriving) -> None:
        while not ended.wait(EVERY):
            say(completed=own.arrived, total=own.coming.bytes, digest=own.coming.digest)

    def begin(coming: Coming) -> None:
        say(completed=0, total=coming.bytes, digest=coming.digest)
        threading.Thread(target=watch, args=(Arriving(coming),), daemon=True).start()

    try:
        place = resolve(model, told=begin)
    except ModelError as error:
        ended.set()
        say(error=str(error))
        return 2
    ended.set()
    say(place=str(place))
    return 0


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)
