"""The command's outside: help without weight, errors in a sentence, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxrun import __version__, cli
from mlxrun.spec import ModelError
from tests.server.tiny import write_tiny

HEAVY = ("mlx", "mlx_lm", "numpy", "transformers", "tokenizers", "jinja2", "huggingface_hub", "rich", "textual")


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from mlxrun.cli import main
try: main(["--help"])
except SystemExit: pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "COMMAND" in said
    assert said.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"mlxrun {__version__}\n"


def test_nothing_asked_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "run" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["run"], ["list", "more"], ["run", "x", "--what"], ["show", "a", "b"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(("typed", "meant"), [("sho", "show"), ("serv", "serve"), ("Lists", "list")])
def test_a_command_that_is_spelled_wrongly(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([typed, "smollm2"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"mlxrun: There is no command {typed!r}; did you mean 'mlxrun {meant}'?\n"


def test_a_model_alone_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    (tmp_path / "models" / "shows").mkdir(parents=True)  # a name of a model is one, however it is spelled
    assert cli.main(["shows", "a question"]) == 2
    assert "holds no model" in capsys.readouterr().err
    assert cli.main(["smolm2", "a question"]) == 2
    assert "There is no model 'smolm2'. Did you mean smollm2? What can be named" in capsys.readouterr().err
    assert cli.main(["qwen", "a question"]) == 2
    assert "There is no model 'qwen'. What can be named" in capsys.readouterr().err


def test_a_model_alone_in_a_terminal_is_chatted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlxrun.tui import app

    opened: list[str | None] = []
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "terminal_can_be_filled", lambda: True)
    monkeypatch.setattr(app, "run", lambda model=None: opened.append(model) or 0)
    assert [cli.main(given) for given in ([], ["smollm2"], ["org/name"])] == [0] * 3
    assert opened == [None, "smollm2", "org/name"]
    assert cli.main(["smolm2"]) == 2  # said before the screen is taken
    assert "Did you mean smollm2?" in capsys.readouterr().err
    for plain in (["run", "smolm2"], ["smolm2", "a question"], ["smolm2", "--seed", "1"]):
        assert cli.main(plain) == 2
    assert len(opened) == 3


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ModelError("config.json: no\x1b[2J."), 2, "mlxrun: config.json: no␛[2J.\n"),
        (FileNotFoundError(2, "No such file", "/x/y"), 2, "mlxrun: /x/y: No such file.\n"),
        (OSError("odd"), 2, "mlxrun: odd.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(flags: object) -> int:
        raise error

    monkeypatch.setattr(cli.COMMANDS["list"], "main", fail)
    assert cli.main(["list"]) == code
    assert capsys.readouterr() == ("", said)


def test_a_bad_environment_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLXRUN_CONTEXT", "much")
    assert cli.main(["run", "smollm2", "hi"]) == 2
    assert "MLXRUN_CONTEXT" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """stdout is a pipe that nobody reads any more."""
    code = "import sys; from mlxrun.cli import main; sys.stdin.readline(); sys.exit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"MLXRUN_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": ""},
    )
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("closed", ["0", "1", "2"])
def test_a_stream_that_was_never_open(closed: str, tmp_path: Path) -> None:
    """Daemons start programs so."""
    code = f"import os; os.close({closed}); os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'mlxrun', 'list'])"
    place = {"MLXRUN_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=place, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("smollm2" in done.stdout) is (closed != "1")


def test_names_that_the_locale_cannot_write(tmp_path: Path) -> None:
    """Of another locale, or no text at all: a program that reads the output finds the file by it."""
    (tmp_path / "models" / "mod\udce8le é 漢").mkdir(parents=True)
    (tmp_path / "models" / "mod\udce8le é 漢" / "config.json").write_text("{}")
    place = {"MLXRUN_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": "", "PYTHONUTF8": "1"}
    for encoding, seen in (("utf-8", b"mod\xe8le \xc3\xa9 \xe6\xbc\xa2"), ("latin-1", b"mod\xe8le \xe9 ?")):
        command = [sys.executable, "-m", "mlxrun", "list"]
        done = subprocess.run(command, capture_output=True, env={**place, "PYTHONIOENCODING": encoding}, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.count(seen) == 2


def test_interrupted_before_anything_is_there() -> None:
    code = """
import builtins, sys
real = builtins.__import__
def stop(name, *more, **how):
    if "cli" in name: raise KeyboardInterrupt
    return real(name, *more, **how)
builtins.__import__ = stop
from mlxrun.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_list_and_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1) == ["smollm2", "not here yet; fetched when first used"]
    assert lines[1].split() == ["mine", "2", "B", str(model)]
    assert cli.main(["list", "--json"]) == 0
    starter, mine = json.loads(capsys.readouterr().out)["models"]
    assert starter == {"name": "smollm2", "place": None, "bytes": None, "made_bytes": 0}
    assert mine == {"name": "mine", "place": str(model), "bytes": 2, "made_bytes": 0}
    assert cli.main(["pull", "mine"]) == 0
    assert capsys.readouterr().out == f"{model}\n"
    assert cli.main(["pull", "yours"]) == 2


# ---- what is no model -----------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def looping(path: Path) -> None:
    path.symlink_to(path.name)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(5000))


IN_THE_WAY = {"a pipe": fifo, "a link to itself": looping, "a folder": Path.mkdir, "zeros": zeros, "empty": Path.touch}
COMMANDS = (["show"], ["fit"], ["run", "--raw", "--max-tokens", "1", "hi"], ["verify"], ["pull"], ["eval"], ["serve"])


def refused(capsys: pytest.CaptureFixture[str], command: list[str], model: Path | str) -> str:
    """The one line that a command says which cannot go on with this."""
    code = cli.main([command[0], str(model), *command[1:], *(["--port", "0"] if command == ["serve"] else [])])
    out, err = capsys.readouterr()
    assert (code, out) == ((1, "") if command == ["verify"] and os.path.exists(model) else (2, "")), err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("thing", IN_THE_WAY)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_no_model_is_a_sentence(
    command: list[str], thing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "home"))
    IN_THE_WAY[thing](tmp_path / "x.gguf")
    if (command, thing) not in [(["pull"], "zeros"), (["pull"], "empty")]:  # which says where it is, and reads nothing
        assert "x.gguf" in refused(capsys, command, tmp_path / "x.gguf")
    assert "~nobody-of-that-name" in refused(capsys, command, "~nobody-of-that-name")


FILES = (
    *("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"),
    *("generation_config.json", "special_tokens_map.json", "chat_template.jinja"),
)
WRONG = [(thing, name) for thing in IN_THE_WAY for name in FILES if thing[0] == "a" or not name.endswith(".jinja")]


@pytest.mark.parametrize(("thing", "name"), WRONG)
def test_what_is_in_the_way_of_a_file_is_told(
    thing: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe would block whoever reads it, and what is overlooked may be the chat template."""
    folder = write_tiny(tmp_path / "tiny", context=128)
    (folder / name).unlink(missing_ok=True)
    IN_THE_WAY[thing](folder / name)
    assert name in refused(capsys, ["run", "hi"], folder)
