"""Files, pictures and long pastes that go with a message: read once, when it is sent, and kept with it.

In the text a file is @path, a paste is [paste 1]; what they hold is told to the model below the text, and pictures are
shown to it before the text. Knows no widgets.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LARGEST = 2_000_000  # bytes of one file: more than any context takes
LARGEST_PICTURE = 20 << 20
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
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
    picture: str = ""  # the bytes of its file, in base64

    @property
    def data(self) -> bytes:
        """Of a picture."""
        return base64.b64decode(self.picture)

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


def read_file(place: Path, folder: Path, context: int | None = None, sees: bool | None = None) -> Attached:
    """`sees`: whether the model can be shown pictures; None: nobody knows."""
    largest = LARGEST_PICTURE if is_picture(place) else LARGEST
    try:
        if not place.is_file():
            raise AttachError(f"{place} is not a file; name one of those in it.")
        if place.stat().st_size > largest:
            raise AttachError(
                f"{place} has {place.stat().st_size / 1e6:.1f} MB; at most {largest / 1e6:.0f} MB go along."
            )
        raw = place.read_bytes()
    except OSError as error:
        raise AttachError(f"{place} cannot be read: {error.strerror or error}.") from error
    name = str(place.relative_to(folder)) if place.is_relative_to(folder) else str(place)
    if is_picture(place):
        return read_picture(name, raw, sees)
    if b"\0" in raw:
        raise AttachError(f"{place} is no text; only text and pictures can be attached.")
    found = Attached(name, raw.decode("utf-8", "replace"))
    if context is not None and found.tokens > context:
        raise AttachError(f"{place} has about {found.tokens:,} tokens; this model's context holds {context:,}.")
    return found


def is_picture(place: Path) -> bool:
    return place.suffix.lower() in PICTURES


def read_picture(name: str, raw: bytes, sees: bool | None) -> Attached:
    """Refused where the model does not see, or the file is none that can be read."""
    from mlxrun.client.pictures import thumbnail
    from mlxrun.core import RequestError

    if sees is False:
        raise AttachError(f"{name} is a picture, and this model sees none; ctrl+l changes to one that does.")
    try:
        thumbnail(raw, name, 1, 1)
    except RequestError as error:
        raise AttachError(str(error)) from error
    return Attached(name, "", base64.b64encode(raw).decode())


def pictures(files: Iterable[Attached]) -> list[Attached]:
    return [file for file in files if file.picture]


def with_files(text: str, files: Sequence[Attached]) -> str:
    """As the model is told."""
    return "\n\n".join([text, *(f"{file.name}:\n{fenced(file.text)}" for file in files if not file.picture)])


def fenced(text: str) -> str:
    """In a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def written(files: Iterable[Attached]) -> str:
    told = [{key: value for key, value in asdict(file).items() if value or key != "picture"} for file in files]
    return json.dumps(told) if told else ""


def read(text: str) -> list[Attached]:
    try:
        told = json.loads(text) if text else []
        return [Attached(str(one["name"]), str(one["text"]), str(one.get("picture", ""))) for one in told]
    except (ValueError, TypeError, KeyError, AttributeError):
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
