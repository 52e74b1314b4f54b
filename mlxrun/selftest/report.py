"""A report to share: one JSON file, in which nothing names a person or a machine. See docs/selftest.md.

The file is opened before anything runs, so that one that cannot be written is refused at once, and gets its name when
it is whole.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import __version__
from ..spec import ModelError
from .results import Result

SCHEMA = 1  # a number higher where a reader of the one before would be misled
SHORT = 3  # letters of a name below which it is no secret, but stands in other words


class ReportFile:
    def __init__(self, path: Path) -> None:
        """ModelError: it cannot be written."""
        self.path = path
        target = Path(os.path.realpath(path))
        try:
            if target.exists() and not stat.S_ISREG(target.stat().st_mode):
                kind = "a folder" if target.is_dir() else "no ordinary file"
                raise ModelError(f"The report cannot be written: {path} is {kind}; name another file.")
            if target.exists() and not os.access(target, os.W_OK):
                raise ModelError(f"The report cannot be written: {path} may not be changed; name another file.")
            self._descriptor, self._made = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
        except OSError as error:
            why = error.strerror or str(error)
            raise ModelError(f"The report {path} cannot be written: {why}; name another file.") from error
        self._target = target

    def write(self, report: Mapping[str, Any]) -> None:
        with open(self._descriptor, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")
        os.chmod(self._made, 0o644)
        os.replace(self._made, self._target)

    def forget(self) -> None:
        """Nothing came of it; what stood there before stays. Does nothing after `write`."""
        with suppress(OSError):
            os.close(self._descriptor)
        with suppress(OSError):
            os.unlink(self._made)


def report(results: Sequence[Result], *, quick: bool) -> dict[str, Any]:
    secret = names()
    return {
        "schema": SCHEMA,
        "mlxrun": __version__,
        "quick": quick,
        "well": all(result.well for result in results),
        "seconds": round(sum(result.seconds for result in results), 1),
        "parts": [without_names(result.as_json(), secret) for result in results],
    }


def names() -> dict[str, str]:
    """What must not stand in a report, and what stands there instead; longer ones first, for one may hold another."""
    found = {
        str(Path(__file__).parents[2]): "(mlxrun)",
        sys.prefix: "(python)",
        tempfile.gettempdir(): "(tmp)",
        os.path.realpath(tempfile.gettempdir()): "(tmp)",
        os.path.expanduser("~"): "~",
        os.path.realpath(os.path.expanduser("~")): "~",
        os.environ.get("MLXRUN_HOME", ""): "(models)",
        os.getcwd(): "(here)",
    }
    with suppress(OSError, KeyError):
        found[getpass.getuser()] = "(user)"
    found[os.path.basename(os.path.expanduser("~"))] = "(user)"
    host = socket.gethostname()
    found |= {host: "(host)", host.split(".")[0]: "(host)"}
    kept = {name: sign for name, sign in found.items() if len(name) >= SHORT}
    return dict(sorted(kept.items(), key=lambda item: -len(item[0])))


def without_names(value: Any, secret: Mapping[str, str]) -> Any:
    """Values only: what stands before a colon is ours."""
    if isinstance(value, str):
        for name, sign in secret.items():
            value = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", sign, value)
        return value
    if isinstance(value, Mapping):
        return {key: without_names(inner, secret) for key, inner in value.items()}
    return [without_names(inner, secret) for inner in value] if isinstance(value, list | tuple) else value
