"""The settings file: themes, keys, motion; and what makes no sense in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlxrun.tui.app import Chat
from mlxrun.tui.screens.chat import ChatScreen
from mlxrun.tui.settings import KEYS, UiSettings, place, read
from mlxrun.tui.theme import THEMES, contrast, hard_to_read, own_theme

from .fakes import FakeBackend
from .helpers import hides, in_app, running, send, shows


def app_with(folder: Path, text: str) -> Chat:
    (folder / "tui.toml").write_text(text)
    backend = FakeBackend()
    backend.loaded.set()
    return Chat(backend, folder / "sessions.db", settings=folder / "tui.toml")


@in_app
async def test_theme_keys_and_motion_are_as_the_file_says(folder: Path) -> None:
    own = '[themes.sea]\nbase = "dark"\nprimary = "#80d0ff"\nfaint = "#a0a0a0"\n'
    app = app_with(folder, f'theme = "sea"\nmotion = false\nunload_after = 5\n[keys]\nmodels = "f4,f3"\n{own}')
    async with running(app) as pilot:
        assert (app.theme, app.animation_level, app.unload_after) == ("mlxrun-sea", "none", 5)
        assert app.current_theme.primary == "#80d0ff"
        await pilot.press("ctrl+l")
        await pilot.press("f3")
        await shows(pilot, "─ Models ")
        await pilot.press("escape")
        await hides(pilot, "─ Models ")
        await send(pilot, "/theme light")
        assert app.theme == "mlxrun-light"
        app.sessions.close()
    again = app_with(folder, own)
    async with running(again) as pilot:
        assert (again.theme, again.animation_level) == ("mlxrun-light", "full")
        await send(pilot, "/theme sea")
        assert again.theme == "mlxrun-sea"


@in_app
async def test_what_makes_no_sense_is_told_and_the_rest_is_used(folder: Path) -> None:
    app = app_with(folder, 'theme = "sea\\u001b[31m"\nmotion = false\n')
    async with running(app, (120, 30)) as pilot:
        await shows(pilot, "theme must be one of dark,", "\\x1b[31m")
        assert app.animation_level == "none"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("=", "cannot be read as settings"),
        ("colour = 1", "sets 'colour', which is not known; known are theme, motion"),
        ("motion = 1", "motion must be true or false, not 1"),
        ("unload_after = true", "unload_after must be a number of minutes above 0, not True"),
        ("keys = 1", r"keys must be a table, \[keys\]"),
        ('[keys]\nfly = "f2"', "keys.fly is not known; known are new, sessions, models"),
        ('[keys]\nnew = "F 2"', "keys.new must be keys such as 'f2' or 'ctrl\\+k,f3', not 'F 2'"),
        ("[themes.dark]", "themes.'dark' must be a table of colours with a name of its own"),
        ('[themes.a]\nbase = "b"', "themes.a.base must be one of dark, light, contrast, not 'b'"),
        ('[themes.a]\nsky = "#ffffff"', "themes.a.sky is not known; known are base, primary"),
        ('[themes.a]\nprimary = "red"', "themes.a.primary must be a colour such as '#e8a15c', not 'red'"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "tui.toml").write_text(text)
    (wrong,) = read(tmp_path / "tui.toml").wrong
    assert wrong.startswith(str(tmp_path / "tui.toml"))
    import re

    assert re.search(told, wrong)


def test_without_a_file_all_is_as_ever(tmp_path: Path) -> None:
    assert read(tmp_path / "none.toml") == UiSettings()
    assert place({"XDG_CONFIG_HOME": "/x"}, "linux") == Path("/x/mlxrun/tui.toml")
    assert place({"MLXRUN_TUI_FILE": "/y.toml"}, "darwin") == Path("/y.toml")


def test_the_keys_that_can_be_changed_are_those_of_the_chat() -> None:
    bound = {binding.id: binding.key for binding in ChatScreen.BINDINGS if getattr(binding, "id", None)}
    assert bound == KEYS


def test_a_theme_that_is_hard_to_read_says_so() -> None:
    from mlxrun.tui.settings import OwnTheme

    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert all(hard_to_read(theme) == "" for theme in THEMES.values())
    grey = own_theme("grey", OwnTheme("light", {"faint": "#c0c0c0"}))
    assert hard_to_read(grey).startswith("In the theme grey faint has a contrast of 1.7 to 1")
