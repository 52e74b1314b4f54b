"""mlxrun embed MODEL [FILE ...]: vectors of many texts, from JSON lines to JSON lines or to NumPy's .npy.

All lines are looked at before the model is loaded, so what is wrong in the last one costs no time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import options
from .steps import bar
from .terminal import say

if TYPE_CHECKING:
    from ..assistant import Assistant
    from ..engine.embedding import Vector

HELP = "vectors of the texts in JSON lines, as JSON lines or as a NumPy file"
AT_ONCE = 256  # texts of a job
STDIN, ARRAY = "-", ".npy"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    told = "JSON lines: texts, or objects with a text; stdin where there is none, or where it is -"
    parser.add_argument("files", metavar="FILE", nargs="*", help=told)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="FILE.npy: an array, a row a text; FILE.jsonl: as on stdout"
    )
    parser.add_argument("--field", default="text", metavar="NAME", help="of objects, the field that is the text (text)")
    parser.add_argument("--prompt", metavar="NAME", help="the model's prompt to put before each text, such as query")
    parser.add_argument("--dimensions", type=int, metavar="N", help="cut the vectors, of a model trained for that")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long, which else are an error")
    options.add_memory(parser)
    options.add_loading(parser)


@dataclass(frozen=True, slots=True)
class TextLine:
    place: str  # as a person finds it
    text: str
    id: Any = None  # told again beside the vector


def main(flags: argparse.Namespace) -> int:
    from ..assistant import Assistant
    from ..ops.device import this_device
    from ..settings import from_environment
    from ..store.resolve import resolve
    from ..weights.mapped import believed

    output = checked_output(flags.output)
    lines = list(read_lines(flags.files or [STDIN], flags.field))
    if not lines:
        raise wrong("There is no line to embed.")
    opened = options.open_flagged(resolve(flags.model), flags, this_device())
    assistant = Assistant.load(opened, options.load_options(flags, from_environment()), name=flags.model)
    try:
        check_size(assistant, flags.dimensions)
        with bar("embedding") as progress, believed():
            found = vectors_of(assistant, lines, flags, progress)
            count = deliver(output, lines, found)
    finally:
        assistant.close()
    if output is not None:
        say(f"{count:,} vectors in {output}")
    return 0


def wrong(sentence: str) -> Exception:
    from ..core import RequestError

    return RequestError(sentence)


def deliver(output: Path | None, lines: Sequence[TextLine], vectors: Iterator[Vector]) -> int:
    from ..convert.array_file import write_array

    if output is None:
        return put_rows(sys.stdout, lines, vectors)
    return write_array(output, vectors) if output.suffix == ARRAY else write_rows(output, lines, vectors)


def checked_output(output: Path | None) -> Path | None:
    from ..convert.aside import refuse_taken

    if output is None:
        return None
    if output.suffix not in (ARRAY, ".jsonl"):
        raise wrong(f"--output must end in {ARRAY} or .jsonl, not {str(output)!r}.")
    refuse_taken(output, folder=False)
    if not output.absolute().parent.is_dir():
        raise wrong(f"--output: there is no folder {output.absolute().parent}.")
    return output


def read_lines(files: Sequence[str], field: str) -> Iterator[TextLine]:
    for name in files:
        if name == STDIN:
            yield from lines_of("stdin", sys.stdin.buffer, field)
            continue
        with open(name, "rb") as opened:
            yield from lines_of(name, opened, field)


def lines_of(name: str, given: Iterable[bytes], field: str) -> Iterator[TextLine]:
    for number, raw in enumerate(given, 1):
        if raw.strip():
            yield line_of(f"{name}, line {number}", raw, field)


def line_of(place: str, raw: bytes, field: str) -> TextLine:
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise wrong(f"{place}: it is not UTF-8.") from None
    except (ValueError, RecursionError):  # ValueError: a number of thousands of digits too
        raise wrong(f"{place}: it is not JSON; {wanted(field)}") from None
    told = found.get("id") if isinstance(found, dict) else None
    text = found.get(field) if isinstance(found, dict) else found
    if not isinstance(text, str):
        what = f"{field!r} is missing or no text" if isinstance(found, dict) else "it is no text"
        raise wrong(f"{place}: {what}; {wanted(field)}")
    if not text:
        raise wrong(f"{place}: the text is empty, and has no vector.")
    return TextLine(place, text, told)


def wanted(field: str) -> str:
    return f"each line must be a text in quotes, or an object with {field!r}."


def check_size(assistant: Assistant, size: int | None) -> None:
    why = assistant.embedding.refuses(size)
    if why is not None:
        raise wrong(f"--dimensions must be {why}, which {assistant.name} was trained for, not {size}.")


def vectors_of(
    assistant: Assistant, lines: Sequence[TextLine], flags: argparse.Namespace, progress: Callable[[int, int], None]
) -> Iterator[Vector]:
    from ..core import ContextError

    for first in range(0, len(lines), AT_ONCE):
        part = lines[first : first + AT_ONCE]
        try:
            texts = [line.text for line in part]
            job = assistant.embed(texts, flags.dimensions, prompt=flags.prompt, truncate=flags.truncate)
        except ContextError:
            raise wrong(too_long(part, assistant, flags.prompt)) from None
        yield from job.done.result()
        progress(first + len(part), len(lines))


def too_long(lines: Sequence[TextLine], assistant: Assistant, prompt: str | None) -> str:
    """Which of them is."""
    from ..core import ContextError

    most = assistant.engine.context
    for line in lines:
        try:
            if len(assistant.reader.read(line.text, prompt).ids) <= most:
                continue
        except ContextError:
            pass
        return f"{line.place}: the text is longer than the {most:,} tokens that this model reads; --truncate cuts it."
    return f"A text is longer than {most:,} tokens."


def write_rows(output: Path, lines: Sequence[TextLine], vectors: Iterator[Vector]) -> int:
    from ..convert.aside import write_aside

    with write_aside(output, folder=False) as aside, aside.open("w", encoding="utf-8") as to:
        return put_rows(to, lines, vectors)


def put_rows(to: TextIO, lines: Sequence[TextLine], vectors: Iterator[Vector]) -> int:
    """Nine digits give each float32 again."""
    for line, vector in zip(lines, vectors, strict=True):
        own = {} if line.id is None else {"id": line.id}
        to.write(json.dumps({**own, "embedding": [float(f"{number:.9g}") for number in vector.tolist()]}) + "\n")
    return len(lines)
