"""The settings of `mlxrun serve` in a file: the flags' own names, in TOML. What a flag says goes before.

Most flags may stand in it; of tables there is [alias] alone. A file that holds a key must be its owner's alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import RequestError

PLACE = "MLXRUN_SERVE_FILE"  # the variable that names another file
NAME = "serve.toml"
PLACES = ("models_dir", "adapter_dir", "store")
TEXTS = ("name", "host", "key", "keep_alive", "log", *PLACES)
NUMBERS = ("max_models", "max_adapters", "max_concurrent", "grace", "context")
SWITCHES = ("installed", "strict")
LISTS: dict[str, type] = {"model": str, "allow_host": str, "allow_origin": str, "pin": str, "port": int}
KNOWN = (*TEXTS, *NUMBERS, *SWITCHES, *LISTS, "alias")
TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(TEXTS, (str, "text")),
    **dict.fromkeys(NUMBERS, (int, "a whole number")),
    "grace": (float, "a number"),
    **dict.fromkeys(SWITCHES, (bool, "true or false")),
    "alias": (dict, "a table of names"),
}


def place(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    if environ.get(PLACE):
        return Path(environ[PLACE]).expanduser()
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlxrun" / NAME
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if os.path.isabs(config) else Path.home() / ".config") / "mlxrun" / NAME


def read(path: Path) -> dict[str, Any]:
    """By the flags' names; empty where there is no file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read as settings: {error}.") from error
    found = {name.replace("-", "_"): value for name, value in found.items()}
    for name, value in found.items():
        found[name] = checked(path, name, value)
    if "key" in found and mode & 0o077:
        raise RequestError(f"{path} holds a key and others may read it: chmod 600 {path}")
    return found


def checked(path: Path, name: str, value: Any) -> Any:
    if name not in KNOWN:
        raise RequestError(f"{path} sets {name!r}, which is not known; known are {', '.join(KNOWN)}.")
    if name in LISTS:
        values, kind = value if isinstance(value, list) else [value], LISTS[name]
        if not all(isinstance(one, kind) and not isinstance(one, bool) for one in values):
            raise RequestError(f"{path}: {name} must be a list of {'numbers' if kind is int else 'texts'}.")
        return values
    kind, told = TYPES[name]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"{path}: {name} must be {told}, not {value!r}.")
    if name == "alias":
        if not all(isinstance(model, str) for model in value.values()):
            raise RequestError(f"{path}: each alias must name a model, as text.")
        return [f"{alias}={model}" for alias, model in value.items()]
    return Path(value) if name in PLACES else value


def laid_under(flags: argparse.Namespace, usual: argparse.Namespace, settings: Mapping[str, Any]) -> argparse.Namespace:
    """The flags, and the file's settings where a flag says nothing. `usual`: flags where nobody says anything."""
    laid = argparse.Namespace(**vars(flags))
    for name, value in settings.items():
        if hasattr(usual, name) and getattr(flags, name) == getattr(usual, name):
            setattr(laid, name, value)
    return laid
