"""The terminal UI's settings in a file: its theme, themes of one's own, keys, whether anything moves. Plain data.

What makes no sense in it is told in a sentence, and the rest is used.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACE = "MLXRUN_TUI_FILE"  # the variable that names another file
KEYS = {
    "new": "ctrl+n", "sessions": "ctrl+o", "models": "ctrl+l", "lens": "ctrl+g", "retry": "ctrl+r",
    "reasoning": "ctrl+t", "help": "f1", "rail": "f2",
}  # fmt: skip
KNOWN = ("theme", "motion", "unload_after", "keys", "themes")
BASES = ("dark", "light", "contrast")
COLOURS = (
    *("primary", "secondary", "accent", "foreground", "background", "surface", "panel"),
    *("success", "warning", "error"),
)
VARIABLES = ("faint", "track", "mark", "code", "border", "border-blurred")
NAME = re.compile(r"[\w-]{1,40}")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class OwnTheme:
    base: str
    colours: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UiSettings:
    theme: str = ""  # "": what was picked last
    motion: bool = True
    unload_after: float | None = None  # minutes; None: what was said last
    keys: Mapping[str, str] = field(default_factory=dict)  # by what they do: several are apart by commas
    themes: Mapping[str, OwnTheme] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()  # what makes no sense, each in a sentence


def place(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    if environ.get(PLACE):
        return Path(environ[PLACE]).expanduser()
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlxrun" / "tui.toml"
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if os.path.isabs(config) else Path.home() / ".config") / "mlxrun" / "tui.toml"


def read(file: Path) -> UiSettings:
    """The usual ones where there is no file."""
    try:
        with file.open("rb") as opened:
            told = tomllib.load(opened)
    except FileNotFoundError:
        return UiSettings()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return UiSettings(wrong=(f"{file} cannot be read as settings: {error}.",))
    return SettingsReader(file).settings(told)


class SettingsReader:
    def __init__(self, file: Path) -> None:
        self._file, self._wrong = file, list[str]()

    def settings(self, told: Mapping[str, Any]) -> UiSettings:
        for name in told.keys() - set(KNOWN):
            self._say(f"sets {name!r}, which is not known; known are {', '.join(KNOWN)}")
        themes = dict(self._themes(self._table(told, "themes")))
        theme, motion, minutes = told.get("theme", ""), told.get("motion", True), told.get("unload_after")
        if theme and theme not in (*BASES, *themes):
            self._say(f"theme must be one of {', '.join((*BASES, *themes))}, not {theme!r}")
            theme = ""
        if not isinstance(motion, bool):
            self._say(f"motion must be true or false, not {motion!r}")
            motion = True
        if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0):
            self._say(f"unload_after must be a number of minutes above 0, not {minutes!r}")
            minutes = None
        keys = dict(self._keys(self._table(told, "keys")))
        return UiSettings(theme, motion, minutes, keys, themes, tuple(self._wrong))

    def _table(self, told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        found = told.get(name, {})
        if isinstance(found, Mapping):
            return found
        self._say(f"{name} must be a table, [{name}]")
        return {}

    def _keys(self, told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, keys in told.items():
            if name not in KEYS:
                self._say(f"keys.{name} is not known; known are {', '.join(KEYS)}")
            elif not isinstance(keys, str) or not re.fullmatch(r"[a-z0-9_+]+(,[a-z0-9_+]+)*", keys):
                self._say(f"keys.{name} must be keys such as 'f2' or 'ctrl+k,f3', not {keys!r}")
            else:
                yield name, keys

    def _themes(self, told: Mapping[str, Any]) -> Iterator[tuple[str, OwnTheme]]:
        for name, one in told.items():
            if not NAME.fullmatch(name) or name in BASES or not isinstance(one, Mapping):
                self._say(f"themes.{name!r} must be a table of colours with a name of its own, of letters and digits")
                continue
            base, colours = one.get("base", "dark"), {key: value for key, value in one.items() if key != "base"}
            known = (*COLOURS, *VARIABLES)
            strange = [key for key in colours if key not in known]
            bad = [key for key, value in colours.items() if not isinstance(value, str) or not COLOUR.fullmatch(value)]
            if base not in BASES:
                self._say(f"themes.{name}.base must be one of {', '.join(BASES)}, not {base!r}")
            elif strange:
                self._say(f"themes.{name}.{strange[0]} is not known; known are base, {', '.join(known)}")
            elif bad:
                self._say(f"themes.{name}.{bad[0]} must be a colour such as '#e8a15c', not {colours[bad[0]]!r}")
            else:
                yield name, OwnTheme(base, colours)

    def _say(self, wrong: str) -> None:
        self._wrong.append(f"{self._file}: {wrong}.")
