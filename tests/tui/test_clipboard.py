"""Copying: which programs are tried where, what is told, and only what is known. And few colours."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlxrun.tui import clipboard
from mlxrun.tui.theme import THEMES
from rich.color import Color, ColorSystem

from .fakes import chat, said
from .helpers import idle, in_app, running, send, shows, until

STORES = '#!/bin/sh\ncat > "$CLIPBOARD"\n'
FAILS = "#!/bin/sh\nexit 1\n"


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pretended clipboard keeps what it is given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CLIPBOARD", str(tmp_path / "kept"))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "environ", "programs"),
    [
        ("darwin", {}, ["pbcopy"]),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, ["wl-copy", "xclip", "xsel"]),
        ("linux", {"DISPLAY": ":0"}, ["xclip", "xsel"]),
        ("linux", {}, []),
        ("darwin", {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, []),
        ("linux", {"DISPLAY": ":0", "SSH_TTY": "/dev/pts/1"}, []),
    ],
)
def test_which_programs_are_tried(platform: str, environ: dict[str, str], programs: list[str]) -> None:
    assert [command[0] for command in clipboard.commands(environ, platform)] == programs


def test_the_first_that_works_has_it(place: Path) -> None:
    environ = {"DISPLAY": ":0"}
    assert clipboard.copy("ä\n", environ) is False  # there is none
    program(place / "bin", "xclip", FAILS)
    assert clipboard.copy("ä\n", environ) is False
    program(place / "bin", "xsel", STORES)
    assert clipboard.copy("ä\n", environ) is True
    assert (place / "kept").read_text(encoding="utf-8") == "ä\n"


def test_one_that_hangs_or_is_broken_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipboard, "SECONDS", 0.05)
    program(place / "bin", "xclip", "#!/bin/sh\nwhile :; do :; done\n")
    program(place / "bin", "xsel", "#!/nowhere/at/all\n")
    assert clipboard.copy("x", {"DISPLAY": ":0"}) is False


@pytest.mark.parametrize("works", [True, False])
def test_success_is_told_only_when_it_is_known(works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, environ: (kept.append(text), works)[1])

    @in_app
    async def test(folder: Path) -> None:
        app, _ = chat(folder, said("Paris."))
        async with running(app) as pilot:
            await send(pilot, "go")
            await idle(pilot)
            await app.chat.run_action("copy")
            await shows(pilot, "in the clipboard" if works else "was handed")
            assert kept == ["Paris."]
            assert (app.clipboard == "Paris.") is not works  # by OSC 52 only where nothing else did
            app.copy_to_clipboard("selected")
            await until(pilot, lambda: kept[1:] == ["selected"], "what is selected goes the same way")

    test(tmp_path)


def luminance(colour: tuple[int, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """As WCAG has it, of what a terminal with 256 colours makes of them."""
    lights = sorted(
        luminance(tuple(Color.parse(name).downgrade(ColorSystem.EIGHT_BIT).get_truecolor())) for name in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("name", sorted(THEMES))
def test_256_colours_are_enough_to_read_by(name: str) -> None:
    theme = THEMES[name]
    for ground in (theme.background, theme.surface):
        assert contrast(theme.foreground, ground) > 7
        for colour in (theme.primary, theme.success, theme.warning, theme.error, theme.variables["code"]):
            assert contrast(colour, ground) > 4
        assert contrast(theme.variables["faint"], ground) > 4
