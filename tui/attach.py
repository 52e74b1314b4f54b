"""Files and long pastes that go with a message: read once, when it is sent, and kept with it. Knows no widgets.

In the text a file is @path, a paste is [paste 1]; what they hold is told to the model below the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LARGEST = 2_000_000  # bytes of one file: more than any context takes
LONG_PASTE = 2_000  # characters from which on a paste is a chip
LONG_LINES = 30
LETTERS_A_TOKEN = 3.6  # of English and of code, about
NAMED = re.compile(r'(?:^|(?<=\s))@(?:"([^"\n]+)"|([^\s"]+))')
PASTED = "[paste {}]"


class AttachError(ValueError):
    """What cannot be attached, in one sentence."""


@dataclass(frozen=True, slots=True)
class Attached:
    name: str
    text: str

    @property
    def tokens(self) -> int:
        return tokens_in(self.text)


def tokens_in(text: str) -> int:
    """About; only the model's tokenizer knows."""
    return round(len(text) / LETTERS_A_TOKEN + 0.49)


def is_long(pasted: str) -> bool:
    return len(pasted) >= LONG_PASTE or pasted.count("\n") >= LONG_LINES


def named_files(text: str, folder: Path) -> list[Path]:
    """The files that a text names with @, each once; a name that is no file's is only text."""
    found: dict[Path, None] = {}
    for match in NAMED.finditer(text):
        for name in (match[1] or match[2], (match[1] or match[2]).rstrip(".,;:!?)")):
            try:
                place = folder / Path(name).expanduser()
                if place.exists():
                    found[place] = None
                    break
            except (OSError, ValueError, RuntimeError):  # no name of a file can look like that
                continue
    return list(found)


def read_file(place: Path, folder: Path, context: int | None = None) -> Attached:
    try:
        if not place.is_file():
            raise AttachError(f"{place} is not a file; name one of those in it.")
        if place.stat().st_size > LARGEST:
            raise AttachError(
                f"{place} has {place.stat().st_size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} MB go along."
            )
        raw = place.read_bytes()
    except OSError as error:
        raise AttachError(f"{place} cannot be read: {error.strerror or error}.") from error
    if b"\0" in raw:
        raise AttachError(f"{place} is no text; only text can be attached.")
    name = str(place.relative_to(folder)) if place.is_relative_to(folder) else str(place)
    found = Attached(name, raw.decode("utf-8", "replace"))
    if context is not None and found.tokens > context:
        raise AttachError(f"{place} has about {found.tokens:,} tokens; this model's context holds {context:,}.")
    return found


def with_files(text: str, files: Sequence[Attached]) -> str:
    """As the model is told."""
    return "\n\n".join([text, *(f"{file.name}:\n{fenced(file.text)}" for file in files)])


def fenced(text: str) -> str:
    """In a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def written(files: Iterable[Attached]) -> str:
    told = [asdict(file) for file in files]
    return json.dumps(told) if told else ""


def read(text: str) -> list[Attached]:
    try:
        return [Attached(str(one["name"]), str(one["text"])) for one in json.loads(text)] if text else []
    except (ValueError, TypeError, KeyError):
        return []


def completions(stem: str, folder: Path, most: int = 8) -> list[str]:
    """Names of files and folders (with a / behind) that begin as `stem`, which may have folders in it."""
    try:
        start = Path(stem).expanduser()
        within, begins = (start, "") if stem.endswith("/") or not stem else (start.parent, start.name)
        entries = sorted((folder / within).iterdir(), key=lambda one: (one.name.startswith("."), one.name.lower()))
    except (OSError, ValueError, RuntimeError):
        return []
    shown = [one for one in entries if one.name.lower().startswith(begins.lower())]
    shown = [one for one in shown if begins.startswith(".") or not one.name.startswith(".")]
    lead = stem[: len(stem) - len(begins)]
    return [f"{lead}{one.name}{'/' if one.is_dir() else ''}" for one in shown[:most]]
