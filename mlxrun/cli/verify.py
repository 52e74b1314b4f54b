"""mlxrun verify MODEL: whether its files are what was fetched, and what was made ready of it what was written.

A damaged file is fetched anew, a damaged ready one removed.

Exit code 0: all is well, or well again; 1: it is not.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import options
from .terminal import say, tell

if TYPE_CHECKING:
    from ..store.verify import CheckedFile

HELP = "check a model's files, and fetch damaged ones anew"
DAMAGED = 1  # exit code


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--check", action="store_true", help="only tell; fetch nothing")


def main(flags: argparse.Namespace) -> int:
    model = verify_model(flags)
    return max(model, verify_made(flags))


def verify_made(flags: argparse.Namespace) -> int:
    """What was made ready of it and of its quantized copies."""
    from ..settings import from_environment
    from ..store.made import damaged, forget, of_model, ready_files
    from ..store.remove import where
    from .progress import Bar

    settings = from_environment()
    place = where(flags.model, settings)
    files = [] if place is None else list(ready_files(of_model(place, settings)))
    faults = {file: fault for file in files if (fault := damaged(file, Bar("Reading"))) is not None}
    for file, fault in faults.items():
        say(f"{file}: {fault}.")
    if not flags.check and faults:
        forget(faults)
        say("What was damaged of it was removed; it is made anew when the model is loaded.")
    if files and not faults:
        tell(f"{flags.model}: {len(files)} ready file{'s' * (len(files) != 1)} made of it, every block is right.")
    return DAMAGED if faults and flags.check else 0


def verify_model(flags: argparse.Namespace) -> int:
    from ..settings import from_environment
    from ..spec import ModelError
    from ..store import hub, starter
    from ..store.remove import where
    from ..store.resolve import resolve
    from ..store.verify import forget, verify
    from .progress import Bar

    settings = from_environment()
    place = where(flags.model, settings)
    if place is None:
        raise ModelError(f"There is no model {flags.model!r} on this machine.")
    found = list(verify(place, Bar("Reading")))
    damaged = [one for one in found if one.fault is not None]
    for one in damaged:
        say(f"{named(one)}.")
    if not damaged:
        known = all(one.digest for one in found)
        told = "every digest is right" if known else "headers and sizes agree; not all digests are known"
        tell(f"{flags.model}: {len(found)} file{'s' * (len(found) != 1)}, {told}.")
        return 0
    fetchable = place.name == starter.FILE or hub.repository_of(place) is not None
    if flags.check or not fetchable:
        return DAMAGED
    forget(place, [one.file for one in damaged])
    for file in anew(flags.model, [one.file for one in damaged]):
        resolve(file, settings)
    found = list(verify(where(flags.model, settings) or place))
    again = [one for one in found if one.fault is not None]
    for one in again:
        say(f"{named(one)}, although it was fetched anew.")
    if not again:
        tell(f"{flags.model}: {', '.join(one.file for one in damaged)} fetched anew; every digest is right.")
    return DAMAGED if again else 0


def named(one: CheckedFile) -> str:
    """What is wrong with a file, with its name said once."""
    return str(one.fault) if one.fault and one.file in one.fault else f"{one.file}: {one.fault}"


def anew(model: str, damaged: list[str]) -> list[str]:
    """What must be named so that all of these are fetched: of a repository's GGUF files each by itself."""
    from ..store import names

    name = names.parse(model)
    files = [file for file in damaged if file.endswith(".gguf")] if name is not None else []
    found = [f"{name.base}/{file}" for file in files] if name is not None else []
    return found if len(files) == len(damaged) else [*found, model]
