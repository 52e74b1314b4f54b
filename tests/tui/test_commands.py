"""What is typed: commands, their completion, settings, attachments; exports and imports. No terminal is needed."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxrun.tui import attach
from mlxrun.tui.commands import NAMES, Command, CommandError, complete, parsed
from mlxrun.tui.editor import EditorError, edited, editor
from mlxrun.tui.imports import conversations
from mlxrun.tui.screens.orders import ORDERS
from mlxrun.tui.sessions import ChatTurn
from mlxrun.tui.transcript import code_blocks, exported, file_for, quoted
from mlxrun.tui.wishes import Wishes

from mlxrun.core import RequestError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/help", Command("help")),
        ("  /SET  top_p 0.5 ", Command("set", "top_p 0.5")),
        ("/system\nBe brief.\nVery.", Command("system", "Be brief.\nVery.")),
        ("/sys be", Command("system", "be")),
        ("/usr/bin/env is what?", "/usr/bin/env is what?"),
        ("//help is a word", "/help is a word"),
        ("a /help", "a /help"),
        ("/", "/"),
        ("/ 2", "/ 2"),
    ],
)
def test_commands_and_messages(text: str, found: object) -> None:
    assert parsed(text) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [("/foo bar", "/help shows all"), ("/se", "there are /set, /sessions")],
)
def test_what_is_no_command_is_told(text: str, told: str) -> None:
    with pytest.raises(CommandError, match="There is no command") as error:
        parsed(text)
    assert told in str(error.value)


def test_every_command_does_something() -> None:
    assert set(ORDERS) == set(NAMES)


@given(st.text())
def test_no_text_breaks_the_reading_of_commands(text: str) -> None:
    with suppress(CommandError):
        parsed(text)
    complete(text, len(text), Path("/nowhere"))


def words(text: str, folder: Path = Path("/nowhere"), **known: tuple[str, ...]) -> list[str]:
    return [one.text for one in complete(text, len(text), folder, **known)]


def test_completion(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("n")
    (tmp_path / "my file").write_text("n")
    (tmp_path / "src").mkdir()
    (tmp_path / ".hidden").write_text("n")
    assert words("/comp") == ["/compact", "/compare"]
    assert words("/think h") == ["high"]
    assert words("/set top_") == ["top_p", "top_k", "top_n_sigma"]
    assert words("/model q", models=("qwen", "tiny")) == ["qwen"]
    assert words("look at @", tmp_path) == ['@"my file"', "@notes.md", "@src/"]
    assert words("look at @.h", tmp_path) == ["@.hidden"]
    assert words("mail a@b", tmp_path) == []


def test_settings_are_checked_and_kept() -> None:
    wishes = Wishes().with_number("temperature", "0.2").with_number("max_tokens", "99")
    assert wishes.options() == {"temperature": 0.2, "max_tokens": 99}
    assert Wishes.read(wishes.written()) == wishes
    assert wishes.with_number("temperature", "auto").options() == {"max_tokens": 99}
    for name, value in (
        ("temperature", "hot"),
        ("temperature", "-1"),
        ("top_k", "1.5"),
        ("heat", "1"),
        ("max_tokens", "0"),
    ):
        with pytest.raises(RequestError, match=name):
            wishes.with_number(name, value)
    assert Wishes(effort="none").options()["template"] == {"enable_thinking": False, "reasoning_effort": "none"}


@pytest.mark.parametrize("odd", ["{", "[]", '"x"', '{"numbers": 3}', '{"numbers": {"temperature": "x"}}'])
def test_settings_that_cannot_be_read_are_the_usual(odd: str) -> None:
    assert Wishes.read(odd) == Wishes()


def test_files_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print(1)\n```\n")
    (tmp_path / "b c.txt").write_text("x")
    found = attach.named_files('See @a.py, and @"b c.txt"; me@a.py @gone @a.py', tmp_path)
    assert found == [tmp_path / "a.py", tmp_path / "b c.txt"]
    file = attach.read_file(found[0], tmp_path)
    assert attach.with_files("text", [file]) == "text\n\na.py:\n````\nprint(1)\n```\n````"
    assert attach.read(attach.written([file])) == [file]


def test_what_cannot_be_attached_says_why(tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"\0\1")
    (tmp_path / "long").write_text("word " * 9000)
    with (tmp_path / "giant").open("wb") as giant:
        giant.truncate(attach.LARGEST + 1)
    for name, why in (
        ("bin", "no text"),
        ("long", "context holds 100"),
        ("giant", "at most 2 MB"),
        (".", "not a file"),
    ):
        with pytest.raises(attach.AttachError, match=why):
            attach.read_file(tmp_path / name, tmp_path, 100)


TURNS = [
    ChatTurn(1, "user", "How? </section><script>"),
    ChatTurn(2, "assistant", "So:\n\n```py\nx = 1\n```\n\n~~~\nlast", reasoning="hm", model="<b>m"),
]


def test_exports_come_back_and_nothing_in_them_is_obeyed(tmp_path: Path) -> None:
    page = exported("T", TURNS, "Be <i>brief", "html")
    assert "<script>" not in page
    assert "<b>m" not in page
    assert "## <b>m" in exported("T", TURNS, "", "md")
    place = tmp_path / "x.json"
    place.write_text(exported("T", TURNS, "Be brief", "json"))
    (found,) = conversations(place)
    assert (found.title, found.system) == ("T", "Be brief")
    assert [(turn.role, turn.content, turn.reasoning) for turn in found.turns] == [
        (turn.role, turn.content, turn.reasoning) for turn in TURNS
    ]


def test_code_in_a_message() -> None:
    blocks = code_blocks(TURNS[1].content)
    assert [(block.language, block.code) for block in blocks] == [("py", "x = 1\n"), ("", "last")]
    assert [file_for(block) for block in blocks] == ["block.py", "block.txt"]
    assert quoted("a\n\nb\n") == "> a\n>\n> b"


CHATGPT = {
    "title": "Tea",
    "current_node": "c",
    "mapping": {
        "r": {"message": None, "parent": None},
        "a": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi", {"asset": 1}]}}, "parent": "r"},
        "b": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["old"]}}, "parent": "a"},
        "c": {
            "message": {
                "author": {"role": "assistant"},
                "content": {"parts": ["Yes"]},
                "metadata": {"model_slug": "g"},
            },
            "parent": "a",
        },
    },
}
CLAUDE = {
    "name": "Tea",
    "chat_messages": [
        {"sender": "human", "text": "Hi", "content": [{"type": "text", "text": "Hi"}]},
        {"sender": "assistant", "text": "Yes", "content": []},
    ],
}
WEBUI = {
    "title": "Tea",
    "chat": {
        "history": {
            "currentId": "2",
            "messages": {
                "1": {"role": "user", "content": "Hi", "parentId": None},
                "2": {"role": "assistant", "content": "Yes", "parentId": "1", "model": "g"},
            },
        }
    },
}


LM_STUDIO = {
    "name": "Tea",
    "systemPrompt": "Be short.",
    "messages": [
        {
            "currentlySelected": 0,
            "versions": [{"type": "singleStep", "role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        },
        {
            "currentlySelected": 1,
            "versions": [
                {"type": "multiStep", "role": "assistant", "steps": []},
                {
                    "type": "multiStep", "role": "assistant", "senderInfo": {"senderName": "g"},
                    "steps": [
                        {
                            "type": "contentBlock", "style": {"type": "thinking"},
                            "content": [{"type": "text", "text": "<think>", "isStructural": True},
                                        {"type": "text", "text": "Hm."}],
                        },
                        {"type": "contentBlock", "content": [{"type": "text", "text": "Yes"}]},
                    ],
                },
            ],
        },
    ],
}  # fmt: skip


def test_of_lm_studio_the_thoughts_and_the_system_prompt_come_too(tmp_path: Path) -> None:
    (tmp_path / "1.conversation.json").write_text(json.dumps(LM_STUDIO))
    (found,) = conversations(tmp_path / "1.conversation.json")
    assert (found.system, found.turns[1].reasoning, found.turns[1].model) == ("Be short.", "Hm.", "g")


@pytest.mark.parametrize("told", [CHATGPT, CLAUDE, WEBUI, LM_STUDIO])
@pytest.mark.parametrize("form", ["one", "list", "zip"])
def test_conversations_of_other_programs(tmp_path: Path, told: dict[str, object], form: str) -> None:
    place = tmp_path / "in"
    text = json.dumps(told if form == "one" else [told, {"else": 1}])
    if form == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("conversations.json", text)
    else:
        place.write_text(text)
    (found,) = conversations(place)
    assert found.title == "Tea"
    assert [turn.role for turn in found.turns] == ["user", "assistant"]
    assert found.turns[0].content.startswith("Hi")
    assert found.turns[1].content == "Yes"


ODD = (
    "",
    "{}",
    "[1]",
    "nope",
    '{"mapping": 3, "current_node": 1}',
    '{"chat_messages": [1]}',
    '{"systemPrompt": "", "messages": [{"versions": [], "currentlySelected": 3}]}',
    "[" * 99999,
)


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_export_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "in").write_text(text)
    with pytest.raises(CommandError, match="in"):
        conversations(tmp_path / "in")


def test_a_ring_of_messages_ends(tmp_path: Path) -> None:
    node = {"message": {"author": {"role": "user"}, "content": {"parts": ["x"]}}, "parent": "a"}
    (tmp_path / "in").write_text(json.dumps({"title": "", "current_node": "a", "mapping": {"a": node}}))
    assert conversations(tmp_path / "in")


def test_a_text_in_an_editor(tmp_path: Path) -> None:
    script = tmp_path / "ed"
    script.write_text('#!/bin/sh\nprintf " more\\n" >> "$1"\n')
    script.chmod(0o700)
    assert edited("text", editor({"EDITOR": str(script)})) == "text more"
    for command, why in ((["false"], "ended with 1"), ([str(tmp_path / "gone")], "could not be started")):
        with pytest.raises(EditorError, match=why):
            edited("text", command)
