"""The `mlxrun` command: one file a command. Nothing heavy is imported before a command needs it.

What a person did wrong, or a file holds wrong, is one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__, supported
from ..core import RequestError
from ..descriptors import raise_limit
from ..settings import SettingsError, from_environment
from ..spec import ModelError, one_line
from . import (
    bench,
    completion,
    convert,
    doctor,
    embed,
    fit,
    man,
    prune,
    ps,
    pull,
    rm,
    run,
    selftest,
    serve,
    show,
    stop,
    train,
    transcribe,
    tune,
    verify,
)
from . import eval as eval_command
from . import list as list_command
from .terminal import forgive_encodings, open_what_is_closed, say

DESCRIPTION = (
    "Run open-weight language models, natively on MLX. Without a command: a chat that fills the terminal. "
    "'mlxrun MODEL' opens it with that model, and 'mlxrun MODEL PROMPT' is short for 'mlxrun run MODEL PROMPT'."
)
WRONG = 2  # exit code
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE

COMMANDS = {
    "run": run,
    "transcribe": transcribe,
    "serve": serve,
    "show": show,
    "fit": fit,
    "convert": convert,
    "train": train,
    "embed": embed,
    "eval": eval_command,
    "bench": bench,
    "list": list_command,
    "ps": ps,
    "stop": stop,
    "pull": pull,
    "rm": rm,
    "prune": prune,
    "verify": verify,
    "doctor": doctor,
    "tune": tune,
    "selftest": selftest,
    "completion": completion,
    "man": man,
}
WITHOUT_MLX = ("doctor", "ps", "stop", "completion", "man")  # the first tells what is missing; others need none


def main(arguments: Sequence[str] | None = None) -> int:
    open_what_is_closed()
    forgive_encodings()
    raise_limit()
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    model = model_alone(given)
    chosen, rest = parser.parse_known_args(in_full(given) if model is None else [])
    words = getattr(chosen, "words", None)  # argparse takes no words for a prompt that come after a flag
    if rest and (words is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        words.extend(rest)
    try:
        code = without_command(parser, model) if chosen.command is None else run_command(chosen)
        sys.stdout.flush()
        return code
    except (ModelError, RequestError, SettingsError) as error:
        say(f"mlxrun: {error}")
        return WRONG
    except RuntimeError:
        if (why := nothing_computes()) is None:
            raise
        say(f"mlxrun: {why}")
        return WRONG
    except BrokenPipeError:
        # whoever read our output is gone; Python must not find that out again when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        say(f"mlxrun: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.")
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED


def model_alone(arguments: Sequence[str]) -> str | None:
    """Of `mlxrun MODEL` in a terminal that can be filled."""
    alone = len(arguments) == 1 and len(in_full(arguments)) == 2
    return arguments[0] if alone and terminal_can_be_filled() else None


def in_full(arguments: Sequence[str]) -> Sequence[str]:
    """`mlxrun MODEL ...` is short for `mlxrun run MODEL ...`; a word that only looks like a command is no model."""
    first = arguments[0] if arguments else "-"
    if first.startswith("-") or first in COMMANDS:
        return arguments
    if (meant := meant_command(first)) is not None:
        say(f"mlxrun: There is no command {first!r}; did you mean 'mlxrun {meant}'?")
        raise SystemExit(WRONG)
    return ["run", *arguments]


def meant_command(word: str) -> str | None:
    """None: it may well name a model."""
    if not word.isalpha() or os.path.exists(word) or os.path.exists(from_environment().models / word):
        return None
    return next(iter(difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.7)), None)


def nothing_computes() -> str | None:
    """Why MLX raises whatever it is asked to do, where it does."""
    if "mlx.core" not in sys.modules:
        return None
    from .. import gpu

    return gpu.no_arrays()


def run_command(chosen: argparse.Namespace) -> int:
    if chosen.command not in WITHOUT_MLX:
        require_mlx()
    return COMMANDS[chosen.command].main(chosen)


def require_mlx() -> None:
    missing = supported.why_no_mlx()
    if missing:
        raise SettingsError(missing)


def without_command(parser: argparse.ArgumentParser, model: str | None) -> int:
    """`model`: with which the terminal UI begins."""
    if not terminal_can_be_filled():
        parser.print_help()
        return 0
    require_mlx()
    settings = from_environment()  # what is wrong with it is said before the screen is taken
    if model is not None:
        from ..store.resolve import here

        here(model, settings)  # a name that can be none, too
    from ..tui.app import run as open_terminal_ui

    return open_terminal_ui(model)


def terminal_can_be_filled() -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)  # it is drawn on stderr
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM", "dumb") != "dumb"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))  # a script's arguments may be names out of files


def build_parser() -> Parser:
    parser = Parser(prog="mlxrun", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"mlxrun {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.configure(commands.add_parser(name, help=command.HELP, description=command.HELP))
    return parser
