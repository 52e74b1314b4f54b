"""mlxrun prune: remove what was made of models that are gone or have changed since."""

from __future__ import annotations

import argparse

from .terminal import tell

HELP = "remove copies that were made of models and will never be used again"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")


def main(flags: argparse.Namespace) -> int:
    from ..settings import from_environment
    from ..store.made import everything, forget
    from .show import size

    made = everything(from_environment())
    going = [one for one in made if one.outdated]
    for one in going:
        tell(f"{one.path}  {size(one.size)}: {one.outdated}")
    kept = f"{len(made) - len(going)} kept ({size(sum(one.size for one in made if not one.outdated))})"
    if flags.dry_run:
        tell(f"{len(going)} would go ({size(sum(one.size for one in going))}), {kept}.")
        return 0
    freed = forget(one.path for one in going)
    tell(f"{len(going)} gone, {size(freed)} are free again; {kept}.")
    return 0
