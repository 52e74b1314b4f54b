"""The report is refused before anything runs, names nobody, and replaces nothing that is no file."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from mlxrun.cli import main, selftest
from mlxrun.selftest import report, watch
from mlxrun.selftest.results import Part, Result
from mlxrun.spec import ModelError

from .broken import part

MACHINE = Part("machine", "This machine", "mlxrun.selftest.machine:look", 30, 30)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("a part was run")

    monkeypatch.setattr(watch, "one", run)


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is a folder"),
        ("absent/report.json", "No such file or directory"),
        ("file.json/report.json", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("fifo", "is no ordinary file"),
    ],
)
def test_a_file_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / "file.json").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    assert main(["selftest", "--quick", "--report", str(tmp_path / name)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fifo", "file.json"]
    assert (tmp_path / "file.json").read_text() == "mine"


@pytest.mark.usefixtures("never")
def test_a_device_is_not_replaced_by_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--report", "/dev/null"]) == 2
    assert "/dev/null is no ordinary file" in capsys.readouterr().err
    assert not Path("/dev/null").is_file()


def test_what_stood_there_stays_until_the_report_is_whole(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("before")
    kept = report.ReportFile(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == "before"
    kept.forget()
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "before"
    kept = report.ReportFile(tmp_path / "r.json")
    kept.write({"schema": 1})
    kept.forget()
    assert json.loads((tmp_path / "r.json").read_text()) == {"schema": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "aim.json")
    kept = report.ReportFile(tmp_path / "link.json")
    kept.write({"schema": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "aim.json").is_file()


def test_a_folder_without_leave_to_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(report.tempfile, "mkstemp", refused)
    with pytest.raises(ModelError, match=r"r\.json cannot be written: Permission denied; name another file"):
        report.ReportFile(tmp_path / "r.json")


def test_a_report_names_no_person_and_no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home" / "wilhelmina"
    home.mkdir(parents=True)
    for name, value in (("HOME", str(home)), ("USER", "wilhelmina"), ("LOGNAME", "wilhelmina"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLXRUN_HOME", str(home / "mine"))
    monkeypatch.setattr(socket, "gethostname", lambda: "wilhelminas-mac.local")
    results = list(watch.run([MACHINE, part("raises"), part("hangs", 1.0)]))
    told = "the model at wilhelminas-mac, by wilhelmina: /Users/wilhelmina/x"
    results.append(Result(part("fine"), "failed", told, checks=({"name": "a", "good": False, "said": told},)))
    text = json.dumps(report.report(results, quick=True))
    assert "wilhelmina" not in text
    assert str(tmp_path) not in text
    assert "no good in ~/models" in text
    for secret in (os.uname().nodename, str(Path(report.__file__).parents[2])):
        assert len(secret) < report.SHORT or secret not in text
    assert "raises" in text  # the rest is there
    assert json.loads(text)["parts"][0]["numbers"]["chip"]


def test_short_names_hide_no_words() -> None:
    assert report.without_names("max is 3 of maximum", {"max": "(user)"}) == "(user) is 3 of maximum"
    assert report.without_names({"max": ["max", 3, None, True]}, {"max": "(user)"}) == {
        "max": ["(user)", 3, None, True]
    }


def test_the_command_tells_all_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parts = [part("raises"), part("fine"), part("not_here")]
    file = tmp_path / "report.json"
    assert selftest.examine(parts, file, quick=True) == 1
    told = capsys.readouterr()
    assert "as it should be" in told.out
    assert "1 passed, 1 not run, 1 failed." in told.out
    assert max(map(len, told.out.splitlines())) <= 80
    assert "\x1b" not in told.out
    assert "nothing was sent" in told.err
    found = json.loads(file.read_text())
    assert (found["schema"], found["quick"], found["well"]) == (1, True, False)
    assert [one["state"] for one in found["parts"]] == ["died", "passed", "not run"]
    assert selftest.examine(parts[1:], None, quick=True) == 0
    assert "all that ran is well" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_table_fits_and_colours_are_a_persons_choice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = "[red]no markup[/red] \x1b[2J " + "of a kernel that was refused " * 9
    results = [Result(part("fine"), "passed", "well", 1.5), Result(part("fails"), "failed", told, 12.0)]
    selftest.show(results)
    plain = capsys.readouterr().out
    assert max(map(len, plain.splitlines())) <= columns
    assert "\x1b" not in plain
    assert "refused" in plain.split("[red]no")[1]
    for name, value in (("TERM", "xterm-256color"), ("FORCE_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    selftest.show(results)
    assert "\x1b[31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    selftest.show(results)
    assert "\x1b[31m" not in capsys.readouterr().out


def test_interrupted_it_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "listen", interrupted)
    assert selftest.examine([part("hangs", 60.0)], tmp_path / "r.json", quick=True) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
