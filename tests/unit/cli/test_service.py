"""What makes mlxrun serve start at every login: what is written, for whom to read, and what is left alone."""

from __future__ import annotations

import argparse
import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.cli import serve, service
from mlxrun.core import RequestError

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = service.Program(
    ("/opt/my python/bin/python", "-m", "mlxrun", "serve", '100%$HOME\\"'), {"MLXRUN_HOME": "/a b"}
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("MLXRUN_") or name in service.FOLDERS]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(params=["darwin", "linux"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "platform", request.param)
    return request.param


def place_of(home: Path, platform: str) -> Path:
    return service.service_of(service.Program(()), platform, home, {}).path


def test_it_is_written_explained_and_removed(home: Path, platform: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = place_of(home, platform)
    assert cli.main(["serve", "--install-service", "--port", "8123"]) == 0
    told = capsys.readouterr().out
    assert str(path) in told.splitlines()[0]
    assert all(word in told for word in ("Start it", "Stop it", "Remove it", "What it says"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert "--port=8123" in path.read_text()
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    assert cli.main(["serve", "--install-service"]) == 0  # once more: its own it may replace
    assert "--port" not in path.read_text()
    capsys.readouterr()
    assert cli.main(["serve", "--uninstall-service"]) == 0
    assert not path.exists()
    assert "is removed" in capsys.readouterr().out


def test_a_key_is_for_its_owner_only_and_no_argument(
    home: Path, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXRUN_THREADS", "2")
    assert cli.main(["serve", "--install-service", "--host", "0.0.0.0", "--key", "s3cret"]) == 0
    path = place_of(home, platform)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "--key" not in text
    assert "s3cret" in text
    assert "MLXRUN_THREADS" in text


@pytest.mark.parametrize("content", ["mine", ""])
@pytest.mark.parametrize("flag", ["--install-service", "--uninstall-service"])
def test_anothers_file_is_left_alone(
    content: str, flag: str, home: Path, platform: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place_of(home, platform)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert cli.main(["serve", flag]) == 2
    assert path.read_text() == content
    assert "was not written by mlxrun" in capsys.readouterr().err


def test_nothing_to_remove(home: Path, platform: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--uninstall-service"]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--key"),
        (["--port", "70000"], "--port"),
        (["--grace", "-1"], "--grace"),
        (["--name", "a\nb"], "control characters"),
    ],
)
def test_what_serve_would_refuse_is_not_installed(
    arguments: list[str], told: str, home: Path, platform: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--install-service", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not place_of(home, platform).exists()


def test_other_systems_have_none() -> None:
    with pytest.raises(RequestError, match="macOS and Linux only"):
        service.service_of(PROGRAM, "freebsd14", Path("/home/me"), {})


def test_every_flag_comes_back_as_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    said = ["mine", "--port", "9", "--port", "11434", "--allow-host", "a.lan", "--allow-host", "b.lan", "--no-map"]
    said += ["--anyway", "--top-p", "0.5", "--seed", "0", "--waive", "x"]
    flags = parser.parse_args([*said, "--install-service", "--key", "secret"])
    words = service.words_of(flags, serve.usual_flags())
    assert words[0] == str(tmp_path / "mine")
    again = parser.parse_args(words)
    for name in ("install_service", "key"):
        setattr(flags, name, getattr(again, name))
    flags.model = again.model
    assert again == flags


def test_launchd_reads_what_was_meant() -> None:
    described = plistlib.loads(service.agent(PROGRAM, Path("/logs/it")).encode())
    assert described["ProgramArguments"] == list(PROGRAM.command)
    assert described["EnvironmentVariables"] == PROGRAM.environment
    assert (described["Label"], described["StandardErrorPath"]) == (service.LABEL, "/logs/it")


def test_systemd_sees_no_escapes_where_none_are_meant() -> None:
    lines = service.unit(PROGRAM).splitlines()
    assert 'ExecStart="/opt/my python/bin/python" "-m" "mlxrun" "serve" "100%%$$HOME\\\\\\""' in lines
    assert 'Environment="MLXRUN_HOME=/a b"' in lines


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here to read the unit")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "mlxrun.service"
    unit.write_text(service.unit(service.Program((sys.executable, "-m", "mlxrun", "serve", "smollm2"))))
    done = subprocess.run(["systemd-analyze", "verify", "--user", unit], capture_output=True, text=True, check=False)
    assert "mlxrun.service" not in done.stderr, done.stderr


def test_the_agent_in_the_repository_is_what_would_be_written() -> None:
    program = service.Program(("/opt/homebrew/bin/mlxrun", "serve", "smollm2"))
    stored = (ROOT / "packaging" / f"{service.LABEL}.plist").read_text()
    assert stored == service.agent(program, Path("/opt/homebrew/var/log/mlxrun.log"))


def test_nobody_is_killed_within_the_grace() -> None:
    program = service.Program(("mlxrun", "serve"), grace=90.5)
    assert "TimeoutStopSec=101" in service.unit(program).splitlines()
    assert plistlib.loads(service.agent(program, Path("/log")).encode())["ExitTimeOut"] == 101
