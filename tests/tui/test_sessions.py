"""Sessions on disk: what is kept, what survives, and what a damaged file does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlxrun.tui.sessions import Sessions, default_place
from mlxrun.tui.talk import Talk

WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
from mlxrun.tui.sessions import Sessions
from mlxrun.tui.talk import Talk

talk = Talk(Sessions.open(Path(sys.argv[1])))
talk.say("the question")
answer = talk.answer("tiny")
talk.save(replace(answer, content="half an ans"))
talk.draft("a draft")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new" / "sessions.db"


@pytest.fixture
def sessions(place: Path) -> Sessions:
    opened = Sessions.open(place)
    assert opened.trouble == ""
    return opened


def spoken(sessions: Sessions, *texts: str) -> int:
    talk = Talk(sessions)
    for text in texts:
        talk.say(text)
    assert talk.session is not None
    return talk.session


def test_all_is_there_after_kill_9(place: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    sessions = Sessions.open(place)
    last = sessions.last()
    assert sessions.trouble == ""
    assert last is not None
    assert (last.title, last.draft) == ("the question", "a draft")
    assert [(turn.content, turn.finish) for turn in sessions.turns(last.id)] == [
        ("the question", ""),
        ("half an ans", ""),
    ]


@pytest.mark.parametrize("damage", ["no database at all, only text " * 40, "header"])
def test_a_damaged_file_is_moved_aside_and_told(place: Path, sessions: Sessions, damage: str) -> None:
    for number in range(200):
        spoken(sessions, f"question {number} " * 50)
    sessions.close()
    whole = place.read_bytes()
    broken = damage.encode() if damage != "header" else whole[:4096] + b"\xff" * (len(whole) - 4096)
    place.write_bytes(broken)
    after = Sessions.open(place)
    aside = [file for file in place.parent.iterdir() if "damaged" in file.name and file.suffix == ".db"]
    assert [file.read_bytes() for file in aside] == [broken]
    assert str(aside[0]) in after.trouble
    assert after.find() == []
    spoken(after, "anew")
    assert [found.title for found in Sessions.open(place).find()] == ["anew"]


def test_a_file_of_a_newer_program_is_left_alone(place: Path, sessions: Sessions) -> None:
    sessions.close()
    with sqlite3.connect(place) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    after = Sessions.open(place)
    assert "a newer mlxrun wrote it" in after.trouble
    spoken(after, "kept in memory")
    assert [found.title for found in after.find()] == ["kept in memory"]
    assert not [file for file in place.parent.iterdir() if "damaged" in file.name]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    after = Sessions.open(tmp_path / "file" / "sessions.db")
    assert "cannot be saved" in after.trouble
    spoken(after, "kept in memory")
    assert len(after.find()) == 1


def test_search_finds_titles_and_messages_in_any_case(sessions: Sessions) -> None:
    spoken(sessions, "About ÉCLAIRS", "and their 100% filling")
    spoken(sessions, "About the weather")
    assert [found.title for found in sessions.find("éclairs")] == ["About ÉCLAIRS"]
    assert [found.title for found in sessions.find("filling about")] == ["About ÉCLAIRS"]
    assert [found.title for found in sessions.find("0% f")] == ["About ÉCLAIRS"]
    assert sessions.find("x% f") == []
    assert [found.title for found in sessions.find()] == ["About the weather", "About ÉCLAIRS"]


def test_rename_outlives_the_next_message(sessions: Sessions) -> None:
    session = spoken(sessions, "first")
    sessions.rename(session, "  My \n title ")
    Talk(sessions, session).say("second")
    assert sessions.find()[0].title == "My title"


def test_delete_can_be_undone_until_it_is_forgotten(place: Path, sessions: Sessions) -> None:
    session = spoken(sessions, "secret-words")
    sessions.delete(session)
    assert sessions.find() == []
    sessions.delete(session, undo=True)
    assert len(sessions.find()) == 1
    sessions.delete(session)
    sessions.purge()
    sessions.close()
    assert b"secret-words" not in b"".join(file.read_bytes() for file in place.parent.iterdir())


def test_editing_cuts_what_came_after(sessions: Sessions) -> None:
    talk = Talk(sessions)
    first = talk.say("one")
    talk.answer("tiny")
    talk.say("two", instead_of=first)
    assert [turn.content for turn in sessions.turns(talk.session or 0)] == ["two"]
    assert talk.title == "two"


def test_two_messages_in_a_row_become_one_for_the_model(sessions: Sessions) -> None:
    talk = Talk(sessions)
    talk.say("never answered")
    talk.say("asked again")
    assert talk.messages() == [{"role": "user", "content": "never answered\n\nasked again"}]


def test_lone_surrogates_can_be_kept(sessions: Sessions) -> None:
    session = spoken(sessions, "a\ud800b")
    assert sessions.turns(session)[0].content == "a\ufffdb"


def test_only_one_terminal_returns_to_the_last_session(place: Path, sessions: Sessions) -> None:
    assert sessions.alone
    second = Sessions.open(place)
    assert not second.alone
    spoken(second, "both write")
    assert len(sessions.find()) == 1
    sessions.close()
    assert Sessions.open(place).alone


def test_nobody_else_reads_it(place: Path, sessions: Sessions) -> None:
    spoken(sessions, "mine")
    assert {oct(file.stat().st_mode & 0o077) for file in place.parent.glob("sessions.db*")} == {"0o0"}


def test_places() -> None:
    assert default_place({"MLXRUN_HOME": "/x"}) == Path("/x/sessions.db")
    if sys.platform != "darwin":
        assert default_place({"XDG_DATA_HOME": "/d"}) == Path("/d/mlxrun/sessions.db")
        assert default_place({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/mlxrun/sessions.db"
    assert os.path.isabs(default_place({}))
