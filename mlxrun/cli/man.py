"""mlxrun man: the manual page, of the same words as --help. `mlxrun man > mlxrun.1`, or `mlxrun man | man -l -`."""

from __future__ import annotations

import argparse
import re

from .. import __version__

HELP = "print the manual page"
HEAD = """.TH MLXRUN 1 "" "mlxrun {version}" "User Commands"
.SH NAME
mlxrun \\- run open-weight language models, natively on MLX
.SH SYNOPSIS
.B mlxrun
.br
.B mlxrun
.I MODEL
.RI [ PROMPT ]
.br
.B mlxrun
.I COMMAND
.RI [ ARGUMENTS ]
.SH DESCRIPTION
{description}
.SH COMMANDS"""
TAIL = """.SH ENVIRONMENT
.TP
.B MLXRUN_HOME
where fetched models are kept
.TP
.B MLXRUN_CONTEXT
tokens that a session may hold
.TP
.B MLXRUN_MEMORY
memory that a model may take, such as 8GB
.PP
README.md has the others.
.SH EXIT STATUS
0: done. 1: no (it does not fit, something failed). 2: what was asked makes no sense. 130: interrupted.
.SH EXAMPLES
.nf
mlxrun smollm2 "What is the capital of France?"
cat notes.txt | mlxrun smollm2 "Sum this up."
mlxrun serve smollm2
.fi"""


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no flags."""


def main(flags: argparse.Namespace) -> int:
    print(page())
    return 0


def page() -> str:
    from . import DESCRIPTION, build_parser

    (own,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help or "" for choice in own._choices_actions}
    parts = [HEAD.format(version=__version__, description=escaped(DESCRIPTION))]
    for name, parser in own.choices.items():
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        parts += [f".SS {escaped(usage)}", escaped(told[name][:1].upper() + told[name][1:]) + "."]
        parts += [line for action in parser._actions if action.help != argparse.SUPPRESS for line in entry(action)]
    return "\n".join([*parts, TAIL])


def entry(action: argparse.Action) -> list[str]:
    if action.dest == "help":
        return []
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())))
    heads = [f"{flag} {value}".strip() for flag in action.option_strings] or [value or action.dest]
    return [".TP", f".B {escaped(', '.join(heads))}", escaped((action.help or "").replace("%%", "%"))]


def escaped(text: str) -> str:
    """Nothing of it is a request or an escape of troff's."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.\'])", r"\\&\1", plain)
