"""What is said to a person: answers on stdout, everything about them on stderr.

A model's text is shown and never obeyed: on a terminal its control characters become visible signs. Names out of
files are never obeyed anywhere, and end no line: a newline is a sign too.
"""

from __future__ import annotations

import codecs
import os
import sys

from ..spec import SIGNS, one_line

STEERING = {code: sign for code, sign in SIGNS.items() if chr(code) not in "\n\t\u2028\u2029"}


def visible(text: str) -> str:
    return text.translate(STEERING)


def answer(text: str) -> None:
    """A piece of a model's text on stdout, at once; to a file or a pipe it goes unchanged."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def tell(*lines: str) -> None:
    """Lines on stdout; names out of files may stand in them."""
    print("\n".join(map(one_line, lines)))


def say(text: str) -> None:
    """A line about what happens, on stderr; names out of files may stand in it."""
    print(one_line(text), file=sys.stderr, flush=True)


def aside(text: str) -> None:
    """A line that one may overlook."""
    dim, plain = ("\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{dim}{one_line(text)}{plain}", file=sys.stderr, flush=True)


def thought(text: str) -> None:
    """A piece of a model's reasoning: beside the answer, not in it."""
    dim, plain = ("\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{dim}{visible(text)}{plain}", end="", file=sys.stderr, flush=True)


def open_what_is_closed() -> None:
    """A program that is started with a stream closed has None there; what it would say goes nowhere instead."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 as long as the program lives


def forgive_encodings() -> None:
    """A character that cannot be shown is a question mark, not an exception; a program gets a file's name as it is."""
    codecs.register_error("mlxrun.names", names_or_question_marks)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if stream.isatty() else "mlxrun.names")


def names_or_question_marks(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of a file's name that are no text in this locale are kept by Python as lone surrogates."""
    assert isinstance(error, UnicodeEncodeError)
    failed = error.object[error.start : error.end]
    kept = b"".join(bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else b"?" for char in failed)
    return kept, error.end
