"""What was made from what, and by what: told in the name of what was made, so that a change of either is another name.

From: the model's files with their sizes, times and first and last bytes, and the flags that change how they are read.
By: every module that loading imports, directly or not, with the data beside them, the native library, and the versions
of MLX. What is imported is read off the sources, never off what happens to be in memory; a module that
imports by a name that it computes brings all of its package. Not seen: a change in the middle of a file that leaves its
size and both its times as they were, and code that is neither ours nor a package named here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..ops.native import native
from ..weights.files import digest, key_of

LAYOUT = 3  # of ready files
COPIES = 4  # of quantized copies; another one makes all of them anew
NOTES = ".sources.json"  # beside quantized copies
PACKAGE = __package__.partition(".")[0]
ENTRY = "loading.load"  # relative to the package, as all names of modules here
ENDS = 64 << 10  # bytes at either end of a source that are compared
NAMES = re.compile(rb"[\w.]+")
COMPUTED = b"import_module("
OWN = "/__init__.py"  # of a package
CODE = (".py", ".pyc", ".pyi", ".so")


@dataclass(frozen=True, slots=True)
class Source:
    """What a ready file is made from."""

    place: Path
    files: Sequence[Path]  # all that decide on a weight
    how: str = ""  # flags that change what is read


def name_of(source: Source, suffix: str) -> str:
    identity = [str(source.place.resolve()), source.how, code(), *map(seen, source.files)]
    return f"{key_of(source.place)}-{digest(chr(10).join(identity))}{suffix}"


def seen(file: Path) -> str:
    """A file, told apart from what it was: also where it was put in the place of one of its size and time."""
    with file.open("rb") as opened:
        stat, ends = os.fstat(opened.fileno()), hashlib.sha256(opened.read(ENDS))
        opened.seek(max(0, stat.st_size - ENDS))
        ends.update(opened.read(ENDS))
    return f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {ends.hexdigest()}"


# ---- notes beside what was made -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MadeFrom:
    place: Path
    files: tuple[str, ...]  # as `seen` tells them
    version: int


def note(made: Path, source: MadeFrom) -> None:
    """Say of what lies, or soon will, at that place what it was made from. One process at a time."""
    notes = {name: told for name, told in _notes(made.parent).items() if (made.parent / name).exists()}
    notes[made.name] = {"place": str(source.place), "files": source.files, "version": source.version}
    aside = made.parent / f"{NOTES}.{os.getpid()}"
    aside.write_text(json.dumps(notes))
    os.replace(aside, made.parent / NOTES)


def noted(made: Path) -> MadeFrom | None:
    """None: nobody said."""
    match _notes(made.parent).get(made.name):
        case {"place": str(place), "files": list(files), "version": int(version)}:
            return MadeFrom(Path(place), tuple(map(str, files)), version)
    return None


def _notes(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NOTES).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def outdated(source: MadeFrom | None) -> str | None:
    """Why what was made from it will never be used again."""
    if source is None or source.version != COPIES:
        return "another version of mlxrun made it"
    if not source.place.exists():
        return f"{source.place} is gone"
    for line in source.files:
        file = Path(line.rsplit(" ", 4)[0])
        try:
            if seen(file) != line:
                return f"{file} has changed since"
        except OSError:
            return f"{file} is gone"
    return None


# ---- by what ------------------------------------------------------------------------------------


@cache
def code() -> str:
    """Whatever might pack or name a weight differently."""
    numbers = f"{LAYOUT} {mx.__version__}"  # type: ignore[attr-defined]  # MLX's stub forgets it
    return code_of(rooms_of_package(), Path(native.__file__) if native is not None else None, numbers)


def code_of(rooms: Rooms, library: Path | None, numbers: str = "") -> str:
    found, total = imported(rooms), hashlib.sha256(numbers.encode())
    folders = sorted({os.path.dirname(file) for file, _ in found.values()})
    data = {str(file): file.read_bytes() for folder in folders for file in data_of(Path(folder))}
    native_code = {} if library is None else {"library": library.read_bytes()}
    for name, raw in [*sorted((name, raw) for name, (_, raw) in found.items()), *data.items(), *native_code.items()]:
        total.update(f"{Path(name).name} {len(raw)}\0".encode() + raw)
    return total.hexdigest()


class Rooms:
    """Where the package's modules lie. A room may lie outside of its folder, as in a checkout of this repository."""

    def __init__(self, home: Path, elsewhere: dict[str, Path]) -> None:
        self._home, self._elsewhere = str(home), {name: str(folder) for name, folder in elsewhere.items()}
        self._listed: dict[str, frozenset[str]] = {}

    def file_of(self, name: str) -> str | None:
        """Of a module or of a package's own; None: there is no such module."""
        if not name:  # the package itself imports nothing by itself
            return None
        first, _, rest = name.partition(".")
        room = self._elsewhere.get(first)
        parts = [self._home, *name.split(".")] if room is None else [room, *rest.split(".")]
        folder = "/".join(parts[:-1])
        if f"{parts[-1]}.py" in self.inside(folder):
            return f"{folder}/{parts[-1]}.py"
        folder = "/".join(filter(None, parts)) if room is None else "/".join([room, *filter(None, rest.split("."))])
        return f"{folder}/__init__.py" if "__init__.py" in self.inside(folder) else None

    def inside(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            self._listed[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        return self._listed[folder]

    def below(self, package: str) -> Iterator[str]:
        """All modules of a package, in packages inside it too."""
        file = self.file_of(package)
        for name in sorted(self.inside(os.path.dirname(file))) if file is not None else ():
            inner = f"{package}.{name.removesuffix('.py')}"
            if name != "__init__.py" and self.file_of(inner) is not None:
                yield inner
                yield from () if name.endswith(".py") else self.below(inner)


def rooms_of_package() -> Rooms:
    home = Path(__file__).resolve().parents[1]
    specs = {name: find_spec(f"{PACKAGE}.{name}") for name in ("cpu_kernels", "metal_kernels")}
    return Rooms(home, {name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin})


def imported(rooms: Rooms, entry: str = ENTRY) -> dict[str, tuple[str, bytes]]:
    """name -> (file, what is in it) of the module and all that it brings; nothing is run."""
    found: dict[str, tuple[str, bytes]] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        file = None if name in found else rooms.file_of(name)
        if file is None:
            continue
        raw = Path(file).read_bytes()
        found[name] = file, raw
        above = name.rpartition(".")[0]
        package = name if file.endswith(OWN) else above
        waiting += [above, *(rooms.below(package) if COMPUTED in raw else ())]
        for base, names in imports_in(raw, package):
            waiting.append(base)
            if names and (not base or (rooms.file_of(base) or "").endswith(OWN)):  # they may be modules
                waiting += [f"{base}.{each.decode()}".lstrip(".") for each in NAMES.findall(names)]
    return found


def imports_in(raw: bytes, package: str) -> Iterator[tuple[str, bytes]]:
    """(module of ours, names out of it). A sentence that looks like an import brings one too many, which does no harm;
    Python's own parser would take half a second for all."""
    at = raw.find(b"import ")
    while at >= 0:
        start, end = raw.rfind(b"\n", 0, at) + 1, raw.find(b"\n", at)
        head, names = raw[start:at].strip(), raw[at + 7 : end if end >= 0 else len(raw)]
        if head.startswith(b"from ."):
            base = head[5:].lstrip(b".")
            above = package.split(".")[: package.count(".") + 1 - (len(head) - 5 - len(base) - 1)]
            named = ".".join(filter(None, [*above, base.decode(errors="replace")]))
            yield named, raw[at:].partition(b")")[0][7:] if names.startswith(b"(") else names
        elif not head and PACKAGE.encode() in names:
            yield from ((_inside(name.decode()), b"") for name in NAMES.findall(names))
        elif head.startswith(b"from " + PACKAGE.encode()):
            yield _inside(head[5:].strip().decode(errors="replace") + "."), names
        at = raw.find(b"import ", at + 7)


def _inside(name: str) -> str:
    """Relative to the package; empty: it is none of ours, or the package itself."""
    return name.removeprefix(f"{PACKAGE}.").rstrip(".") if name.startswith(f"{PACKAGE}.") else ""


def data_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix not in CODE and file.is_file())
