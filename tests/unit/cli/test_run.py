"""Asking and chatting, against a parrot whose every answer is known."""

from __future__ import annotations

import argparse
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxrun import cli
from mlxrun.assistant import Assistant, Wish, recommended
from mlxrun.cli import chat, options, run, tool_file
from mlxrun.cli.conversation import follow
from mlxrun.client.types import Reply
from mlxrun.core import Finish, RequestError, Sampling
from mlxrun.families import UnknownFamily
from mlxrun.loading import OpenedModel
from mlxrun.ops.device import this_device
from mlxrun.weights import Checkpoint
from tests.client.test_tools import calling

from .parrot import parrot as make_parrot

GREEDY = Sampling(temperature=0)
ALPHABET = "BCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture
def parrot() -> Iterator[Assistant]:
    found = make_parrot()
    yield found
    found.close()


def asker(parrot: Assistant, **how: Any) -> chat.Asker:
    return chat.Asker(parrot, GREEDY, how.get("max_tokens"), how.get("system"), how.get("raw", False))


def test_an_answer_streams_to_stdout(parrot: Assistant, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.once(asker(parrot), "hello") == 0
    out, err = capsys.readouterr()
    assert out == ALPHABET + "\n"
    assert "26 written" in err


def test_what_was_said_is_said_again(parrot: Assistant) -> None:
    ask = asker(parrot, system="be kind", max_tokens=3)
    ask("one")
    ask("two")
    assert ask.messages == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "BCD"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "BCD"},
    ]
    reply = ask("three")
    assert reply.usage is not None
    assert reply.usage.cached_tokens > 0
    ask.reset()
    assert ask.messages == [{"role": "system", "content": "be kind"}]


def test_raw_text_goes_in_as_it_is(parrot: Assistant, capsys: pytest.CaptureFixture[str]) -> None:
    assert asker(parrot, raw=True)("xyW").text == "XYZ"


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(parrot: Assistant) -> None:
    said: list[str] = []

    def write(text: str) -> None:
        said.append(text)
        if len(said) == 4:
            raise KeyboardInterrupt

    reply = follow(parrot.complete("A", Wish(sampling=GREEDY))[0], write, said.append)
    assert (reply.finish, reply.text) == (Finish.CANCELLED, "BCDE")
    assert follow(parrot.complete("W", Wish(sampling=GREEDY))[0], said.append, said.append).text == "XYZ"


def test_a_refused_question_leaves_the_conversation_as_it_was(
    parrot: Assistant, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = asker(parrot)
    ask("one")
    before = list(ask.messages)
    chat.turn(ask, "x" * 2000)
    assert ask.messages == before
    assert "no room in a context of 1000" in capsys.readouterr().err


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
    waiting = iter(lines)

    def read(prompt: str) -> str:
        line = next(waiting)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)


def test_the_chat_loop(parrot: Assistant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ask = asker(parrot, max_tokens=2)
    typed(monkeypatch, "hi", "", "  ", KeyboardInterrupt, "/help", "again", "/reset", "new", EOFError)
    assert chat.loop(ask) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["BC", "BC", "BC"]
    assert [m["content"] for m in ask.messages] == ["new", "BC"]
    assert err.count(chat.COMMANDS) == 3
    typed(monkeypatch, "/exit")
    assert chat.loop(ask) == 0


def test_a_command_that_there_is_not(
    parrot: Assistant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What looks like one is no question; a path or a sentence that begins so is."""
    ask = asker(parrot, max_tokens=2)
    typed(monkeypatch, "/quit", "/?", "/etc/hosts is what", "/exit")
    assert chat.loop(ask) == 0
    said = capsys.readouterr()
    assert [m["content"] for m in ask.messages] == ["/etc/hosts is what", "BC"]
    assert "There is no /quit: /reset begins anew" in said.err
    assert "There is no /?: " in said.err


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """`mlxrun run parrot` without files."""

    def use(template: str | None) -> None:
        opened = OpenedModel(
            Checkpoint(Path("/nowhere/parrot"), "hf", (), {}), UnknownFamily("A parrot."), this_device()
        )
        monkeypatch.setattr("mlxrun.store.resolve.resolve", lambda name, settings: opened.path)
        monkeypatch.setattr("mlxrun.loading.open_model", lambda *_, **__: opened)
        monkeypatch.setattr(Assistant, "load", lambda *_, **__: make_parrot(template))

    use("{{ messages[-1].content }}")
    return use


def test_a_limit_that_cannot_be_is_refused_before_the_model_is_loaded(
    fake_models: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(Assistant, "load")
    assert cli.main(["run", "parrot", "hi", "--max-tokens", "0"]) == 2
    assert capsys.readouterr().err == "mlxrun: max_tokens must be a whole number from 1 on, not 0.\n"


def test_the_command(fake_models: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "parrot", "--temperature", "0", "say", "W"]) == 0
    out, err = capsys.readouterr()
    assert out == "XYZ\n"
    assert "A parrot." in err


@pytest.mark.parametrize("flags", [["--raw"], []])
def test_a_base_model_completes(
    fake_models: Callable[[str | None], None], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_models(None)
    assert cli.main(["run", "parrot", "W", "--temperature", "0", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == "XYZ\n"
    assert ("without a chat template" in err) is (not flags)


def test_a_base_model_has_no_use_for_a_system_message(
    fake_models: Callable[[str | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_models(None)
    assert cli.main(["run", "parrot", "W", "--system", "be kind"]) == 2
    assert "no use for a system message" in capsys.readouterr().err


def test_the_prompt_may_come_from_a_pipe(
    fake_models: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xff V\n")))
    assert cli.main(["run", "parrot", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "WXYZ\n"


@pytest.mark.parametrize(("piped", "said"), [(b"a long text\n", "a long text\n\nsum it up"), (b" \n", "sum it up")])
def test_what_is_piped_in_goes_before_the_question(
    piped: bytes, said: str, fake_models: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped)))
    asked: list[str] = []
    monkeypatch.setattr(run, "once", lambda ask, prompt: asked.append(prompt) or 0)
    assert cli.main(["run", "parrot", "sum", "it", "up"]) == 0
    assert asked == [said]


def test_who_left_a_pipe_open_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = threading.Event()
    monkeypatch.setattr(run, "PATIENCE", 0.0)
    monkeypatch.setattr(run, "aside", lambda text: told.set() if text == run.STILL_OPEN else None)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert told.wait(60)
            return b"late"

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Slow()))
    assert run.prompt_of(["why?"]) == "late\n\nwhy?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "parrot", "--top-p", "0", "hi"], "top_p must be"),
        (["run", "parrot", "--temperature", "nan", "hi"], "temperature must be"),
        (["run", "parrot", "--max-tokens", "0", "hi"], "max_tokens must be"),
        (["run", "parrot", "--seed", "-1", "hi"], "seed must be"),
        (["run", "parrot", ""], "The prompt is empty"),
        (["run", "parrot", "x" * 1000], "no room in a context"),
    ],
)
def test_bad_requests_are_one_sentence(
    arguments: list[str], said: str, fake_models: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("mlxrun: ") and said in line]


def test_json(fake_models: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "parrot", "say", "W", "--temperature", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["text"], told["finish"], told["tool_calls"]) == ("parrot", "XYZ", "stop", [])
    assert told["usage"]["output_tokens"] == 4


def test_a_conversation_is_kept(
    fake_models: Callable[[str | None], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    ask = ["run", "parrot", "--temperature", "0", "--max-tokens", "3", "--conversation", "my talk"]
    assert cli.main([*ask, "W"]) == 0
    assert cli.main([*ask, "W", "--system", "be kind"]) == 0
    file = tmp_path / "conversations" / "my talk.json"
    said = json.loads(file.read_text())["messages"]
    assert [(one["role"], one["content"]) for one in said] == [
        ("system", "be kind"),
        ("user", "W"),
        ("assistant", "XYZ"),
        ("user", "W"),
        ("assistant", "XYZ"),
    ]
    assert file.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    file.write_text("{")
    assert cli.main([*ask, "W"]) == 2
    assert "is no conversation any more" in capsys.readouterr().err
    assert cli.main(["run", "parrot", "W", "--conversation", "../x"]) == 2
    assert "A conversation's name is made of" in capsys.readouterr().err


def test_tools_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tools.py"
    file.write_text("import os\nfrom json import dumps\ndef add(a: int, b: int): return a + b\ndef _own(): ...\n")
    functions = tool_file.functions_of(file)
    assert [tool.name for tool in functions.tools] == ["add"]
    replies = [calling(("add", '{"a": 1, "b": 2}')), Reply("3")]
    assert functions.answered(lambda said, may: replies.pop(0), [], 2).text == "3"
    assert capsys.readouterr().err == "add(a=1, b=2) -> 3\n"


@pytest.mark.parametrize(
    ("flag", "content", "said"),
    [
        ("--tools", "x = 1", "defines no function"),
        ("--tools", "def f(:", "cannot be run: SyntaxError"),
        ("--tools", "1 / 0", "cannot be run: ZeroDivisionError"),
        ("--tools", None, "There is no file"),
        ("--schema", None, "cannot be read: No such file"),
        ("--schema", "{", "is no JSON"),
        ("--schema", "[]", "must hold a JSON schema"),
    ],
)
def test_files_that_are_wrong(
    flag: str,
    content: str | None,
    said: str,
    fake_models: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "f.py"
    if content is not None:
        file.write_text(content)
    assert cli.main(["run", "parrot", "W", flag, str(file)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_flags_that_contradict(fake_models: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "parrot", "W", "--raw", "--conversation", "x"]) == 2
    assert "--raw goes on with a text" in capsys.readouterr().err


def test_an_answer_that_fits_a_schema(smollm2_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_text('{"enum": ["red", "blue"]}')
    command = ["run", str(smollm2_gguf), "A colour?", "--schema", str(tmp_path / "s.json"), "--max-tokens", "9"]
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out) in ("red", "blue")


def flags(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_sampling(parser)
    return parser.parse_args(arguments)


def test_flags_win_over_what_the_authors_recommend() -> None:
    told = Sampling(0.6, 0.95, 20)
    assert options.sampling(flags(), told) == told
    assert options.sampling(flags("--temperature", "0", "--seed", "3"), told) == Sampling(0, 0.95, 20, seed=3)


def test_what_the_authors_recommend(tmp_path: Path) -> None:
    folder = Checkpoint(tmp_path, "hf", (), {})
    assert recommended(folder) == Sampling(temperature=0.7)
    (tmp_path / "generation_config.json").write_text('{"top_k": 5, "min_p": true, "top_p": null, "eos_token_id": 1}')
    assert recommended(folder) == Sampling(temperature=0.7, top_k=5)
    assert recommended(replace(folder, dialect="gguf")) == Sampling(temperature=0.7)


def test_an_unfinished_answer_says_so(parrot: Assistant) -> None:
    reply = follow(parrot.complete("A", Wish(3, GREEDY))[0], lambda _: None, lambda _: None)
    assert "cut at the limit" in chat.summary(reply)
    with pytest.raises(RequestError, match="empty"):
        follow(parrot.complete("", Wish(3, GREEDY))[0], lambda _: None, lambda _: None)


def test_reasoning_goes_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    thinking = make_parrot("{{ messages[-1].content }}<think>")
    try:
        assert run.once(asker(thinking, max_tokens=2), "A") == 0
    finally:
        thinking.close()
    out, err = capsys.readouterr()
    assert out == "\n"
    assert "?@" in err


def test_a_gguf_file_is_parsed_once_from_the_command_to_the_answer(
    smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlxrun.weights import gguf

    parsed, parse = [], gguf._read
    monkeypatch.setattr(gguf, "_read", lambda *given: parsed.append(given) or parse(*given))
    assert cli.main(["run", str(smollm2_gguf), "Hello", "--max-tokens", "2"]) == 0
    assert len(parsed) == 1
