"""mlxrun selftest: try on this machine what mlxrun relies on, and make a report that can be shared.

Exit code 0: every part passed, or says why it was not run; 1: something failed. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec import ModelError, one_line
from .terminal import aside

if TYPE_CHECKING:
    from ..selftest import Part, Result

HELP = "try on this machine what mlxrun relies on: five minutes, and a report to share"
FAILED = 1  # exit code
COLOURS = {"passed": "green", "not run": "yellow", "failed": "red", "hung": "red", "died": "red"}
STARTER = "starter"  # the part that wants the starter model


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was found there, as JSON to share")
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")


def main(flags: argparse.Namespace) -> int:
    from ..selftest import PARTS

    return examine(PARTS, flags.report, quick=flags.quick)


def examine(parts: Sequence[Part], file: Path | None, *, quick: bool) -> int:
    from ..selftest import run
    from ..selftest.report import ReportFile, report

    kept = None if file is None else ReportFile(file)  # refused before anything runs
    results: list[Result] = []
    try:
        without = missing_starter(quick) if any(part.name == STARTER for part in parts) else {}
        for result in run(parts, quick=quick, without=without, begin=lambda part: aside(f"{part.title} ...")):
            results.append(result)
        show(results)
        if kept is not None:
            kept.write(report(results, quick=quick))
            aside(f"The report is in {file}. It names no person and no machine; nothing was sent.")
    except KeyboardInterrupt:
        aside("Interrupted: no report was written." if kept else "Interrupted.")
        return 128 + signal.SIGINT
    finally:
        if kept is not None:
            kept.forget()
    return 0 if all(result.well for result in results) else FAILED


def missing_starter(quick: bool) -> dict[str, str]:
    """Fetched here, because a part may not: the time of a download is none of its own."""
    from ..selftest.starter import missing
    from ..store import starter

    if (reason := missing()) is None:
        return {}
    if quick:
        return {STARTER: reason}
    try:
        aside("The starter model is not here; it is fetched first (93 MB).")
        starter.fetch()
    except ModelError as error:
        return {STARTER: f"The starter model is not here and could not be fetched: {error}"}
    return {}


def show(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("part", ""):
        table.add_column(title, no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("what")
    for result in results:
        state = Text(result.state, style=COLOURS[result.state])
        seconds = f"{result.seconds:.1f}" if result.seconds else ""
        table.add_row(result.part.title, state, seconds, Text(one_line(result.said)))
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(summary(results)))


def summary(results: Sequence[Result]) -> str:
    states = [result.state for result in results]
    passed, without = states.count("passed"), states.count("not run")
    wrong = len(states) - passed - without
    told = f"{passed} passed, {without} not run, {wrong} failed"
    return f"{told}: all that ran is well." if not wrong else f"{told}."
