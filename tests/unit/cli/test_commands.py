"""Commands that tell of the others: completion, the manual page; and stop, bench."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.cli import completion, man
from tests.server.process import Serving, serving
from tests.server.tiny import write_tiny


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_command_and_flag_is_completed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = script(shell, capsys)
    for name in cli.COMMANDS:
        assert name in told
    assert ("-l temperature " if shell == "fish" else "--temperature ") in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_itself_takes_it(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "script").write_text(script(shell, capsys))
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "wanted"), [(["ser"], "serve"), (["fit", "--para"], "--parallel"), (["show", "my-m"], "my-model")]
)
def test_bash_completes(
    words: list[str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script("bash", capsys)
    (tmp_path / "mlxrun").write_text("#!/bin/sh\necho my-model\n")  # what `completion models` says
    (tmp_path / "mlxrun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "script").write_text(text)
    ask = f"source {tmp_path}/script; COMP_WORDS=(mlxrun {' '.join(words)}); COMP_CWORD={len(words)}; "
    ask += '_mlxrun; echo "$COMPREPLY"'
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == wanted


def test_models_are_those_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MLXRUN_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert script("models", capsys).split() == ["smollm2", "mine"]


def test_the_manual_page_has_every_command_and_flag() -> None:
    page = man.page()
    for name, (_, flags) in completion.commands().items():
        assert f".SS mlxrun {name}" in page
        for flag, _ in (each for each in flags if each[0] != "--help"):
            assert flag.replace("-", "\\-") in page
    assert all(not line.startswith("'") for line in page.splitlines())  # or troff would read a request
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=page, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny", context=512)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    with serving(str(folder)) as own:
        yield own


def test_stop(server: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "tiny", "--at", server.url]) == 0
    assert capsys.readouterr().out == "tiny is unloaded.\n"
    assert cli.main(["stop", "tiny", "--at", server.url]) == 1
    assert "was not loaded" in capsys.readouterr().out
    assert cli.main(["stop", "large", "--at", server.url]) == 2
    assert "There is no model" in capsys.readouterr().err
    assert cli.main(["stop", "tiny", "--at", "http://127.0.0.1:1"]) == 2
    assert "No server answers" in capsys.readouterr().err


def test_bench(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["bench", str(folder), "--prompt", "40", "--answer", "4", "--parallel", "2", "--no-map"]
    assert cli.main([*small, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["prompt_tokens"], found["answer_tokens"], found["answers_at_once"]) == (40, 4, 2)
    for name, rate in found["tokens_a_second"].items():
        least, most = found["least_and_most"][name]
        assert 0 < least <= rate <= most
    assert cli.main(small) == 0
    out = capsys.readouterr().out
    assert "| reading a prompt of 40 tokens |" in out
    assert "mlxrun" in out.splitlines()[0]
    assert cli.main(["bench", str(folder), "--answer", "1"]) == 2
    assert "--answer must be a whole number from 2 on" in capsys.readouterr().err
