"""A model's text is shown, never obeyed."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.cli import terminal
from tests.golden.checkpoint import reference, write
from tests.unit.cli.wrong_files import METADATA, SHAPES, write_gguf


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31m\rline\x7f\x00ok\n\tand é 漢 🙂"
SHOWN = "␛]0;owned␇␛[2J\\x9b31m␍line␡␀ok\n\tand é 漢 🙂"


def test_control_characters_become_visible() -> None:
    shown = terminal.visible(ATTACK)
    assert shown == SHOWN
    assert all(char in "\n\t" or (ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0) for char in shown)


def test_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, expected in ((Screen(), SHOWN), (io.StringIO(), ATTACK)):
        monkeypatch.setattr(sys, "stdout", stream)
        terminal.answer(ATTACK)
        assert stream.getvalue() == expected


def test_what_is_said_about_it_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a\x1bb")
    terminal.aside("c\x1bd")
    assert capsys.readouterr() == ("", "a␛b\nc␛d\n")


NAME = "m\n\x1b[31m\rx\u2028y"
TOLD = "m␊␛[31m␍x\\u2028y"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLXRUN_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """All that is written, none of which steers a terminal or ends a line within a name."""
    with suppress(SystemExit):
        cli.main(arguments)
    out, err = capsys.readouterr()
    for line in (out + err).split("\n"):
        assert line.isprintable(), line
    return out + err


@pytest.mark.parametrize("command", ["show", "fit", "list", "verify", "rm"])
def test_the_name_of_a_model_is_one_line(command: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(store / f"{NAME}.gguf", METADATA)
    arguments = () if command == "list" else (f"{NAME}.gguf",)
    assert TOLD in shown(capsys, command, *arguments)


def test_names_out_of_files_and_of_files_are_one_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(store / f"{NAME}.gguf", METADATA, {**SHAPES, NAME: (32,)})
    assert "m\\n\\x1b[31m\\rx" in shown(capsys, "show", f"{NAME}.gguf")
    (store / NAME).mkdir()
    tiny = write(reference("llama").checkpoint(), store / NAME)
    for command in (["run", "hi"], ["eval"]):
        assert f"{TOLD} has no tokenizer" in shown(capsys, command[0], str(tiny), *command[1:])
    (store / NAME / "config.json").write_text("{")
    for command in ("show", "fit"):
        assert "config.json" in shown(capsys, command, str(store / NAME))
    (store / NAME / "config.json").unlink()
    assert TOLD in shown(capsys, "show", str(store / NAME))
    assert TOLD in shown(capsys, "list", NAME)  # one argument too many


def test_a_program_gets_the_name_as_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_gguf(store / f"{NAME}.gguf", METADATA)
    cli.main(["pull", file.name])
    assert capsys.readouterr().out == f"{file}\n"
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    cli.main(["pull", file.name])
    assert TOLD in screen.getvalue()
