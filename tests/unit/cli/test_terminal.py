"""A model's text is shown, never obeyed."""

from __future__ import annotations

import io
import sys

import pytest

from mlxrun.cli import terminal


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
