"""Conversations as trees, and files of before they were."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlxrun.tui import schema
from mlxrun.tui.sessions import Sessions
from mlxrun.tui.talk import Talk

# as the first version of the program wrote it
OLD = """
CREATE TABLE session (
  id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL DEFAULT '', named INTEGER NOT NULL DEFAULT 0,
  draft TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE turn (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
  role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT NOT NULL DEFAULT '', thought REAL NOT NULL DEFAULT 0,
  model TEXT NOT NULL DEFAULT '', finish TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  tokens INTEGER NOT NULL DEFAULT 0, rate REAL NOT NULL DEFAULT 0);
CREATE INDEX turn_of ON turn(session, id);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO session VALUES (1, 'one', 0, 'a draft', 5.0, 0), (2, 'two', 1, '', 6.0, 0), (3, '', 0, 'only this', 7.0, 0);
INSERT INTO turn (session, role, content, model, finish, tokens, rate) VALUES
  (1, 'user', 'hello', '', '', 0, 0), (2, 'user', 'elsewhere', '', '', 0, 0),
  (1, 'assistant', 'hi', 'm', 'stop', 3, 9.5), (1, 'user', 'more', '', '', 0, 0);
PRAGMA user_version = 1;
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from mlxrun.tui import schema
steps = list(schema.STEPS[1])
class Killing(tuple):
    def __iter__(self):
        for index, step in enumerate(steps):
            if index == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield step
schema.STEPS[1] = Killing()
schema.connect(Path(sys.argv[1]))
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    place = tmp_path / "sessions.db"
    db = sqlite3.connect(place)
    db.executescript(OLD)
    db.close()
    return place


def check_migrated(place: Path) -> None:
    sessions = Sessions.open(place)
    assert sessions.trouble == ""
    assert [turn.content for turn in sessions.turns(1)] == ["hello", "hi", "more"]
    assert [turn.parent for turn in sessions.turns(1)] == [None, 1, 3]
    assert [turn.content for turn in sessions.turns(2)] == ["elsewhere"]
    assert sessions.turns(3) == []
    assert (sessions.turns(1)[1].rate, sessions.get(1).draft, sessions.get(3).draft) == (9.5, "a draft", "only this")
    sessions.close()


def test_a_file_of_an_older_program_is_brought_up_to_date(old: Path) -> None:
    check_migrated(old)
    check_migrated(old)
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
    db.close()


@pytest.mark.parametrize("step", [1, 7, 11])
def test_killed_while_it_is_brought_up_to_date(old: Path, step: int) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(old), str(step)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    check_migrated(old)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(Sessions.open(tmp_path / "sessions.db"))


def contents(talk: Talk) -> list[str]:
    return [turn.content for turn in talk.turns]


def answered(talk: Talk, text: str) -> None:
    talk.answer("m", text)


def test_another_answer_stands_beside_the_first(talk: Talk) -> None:
    talk.say("q")
    answered(talk, "first")
    answered(talk, "second")
    assert (contents(talk), talk.place(talk.turns[1])) == (["q", "second"], (2, 2))
    talk.say("and then")
    assert talk.walk(talk.turns[1], -1)
    assert contents(talk) == ["q", "first"]
    assert not talk.walk(talk.turns[1], -1)
    assert talk.walk(talk.turns[1], 1)
    assert contents(talk) == ["q", "second", "and then"]  # to the end of that branch
    assert [message["content"] for message in talk.messages()] == ["q", "second", "and then"]


def test_the_branch_that_was_read_comes_back(talk: Talk, tmp_path: Path) -> None:
    talk.say("q")
    answered(talk, "first")
    answered(talk, "second")
    talk.walk(talk.turns[1], -1)
    again = Talk(Sessions.open(tmp_path / "sessions.db"), talk.session)
    assert contents(again) == ["q", "first"]
    assert again.place(again.turns[1]) == (1, 2)


def test_a_message_in_the_middle_can_be_said_anew(talk: Talk) -> None:
    first = talk.say("a")
    answered(talk, "b")
    talk.say("c")
    talk.say("a2", instead_of=first)
    assert (contents(talk), talk.title) == (["a2"], "a2")
    talk.walk(talk.turns[0], -1)
    assert contents(talk) == ["a", "b", "c"]


def test_an_answer_can_be_put_in_other_words(talk: Talk) -> None:
    talk.say("q")
    answered(talk, "wrong")
    talk.rewrite(talk.turns[1], "right")
    assert (contents(talk), talk.turns[1].finish, talk.place(talk.turns[1])) == (["q", "right"], "edited", (2, 2))


def test_what_is_removed_takes_its_branch_along_and_no_other(talk: Talk) -> None:
    talk.say("q")
    answered(talk, "first")
    talk.say("more")
    answered(talk, "end")
    answer = talk.turns[1]
    talk.turns = talk.turns[:1]
    answered(talk, "second")
    talk.walk(talk.turns[1], -1)
    assert talk.remove(answer)
    assert contents(talk) == ["q", "second"]
    assert not talk.remove(talk.turns[0])
    assert (talk.turns, talk.title) == ([], "")


def test_a_fork_is_a_session_of_its_own(talk: Talk, tmp_path: Path) -> None:
    talk.say("q")
    answered(talk, "a")
    talk.say("later")
    made = Talk(Sessions.open(tmp_path / "sessions.db"), talk.branch(talk.turns[1]))
    assert (contents(made), made.title) == (["q", "a"], "q (branch)")
    made.say("other")
    assert contents(talk) == ["q", "a", "later"]


def test_a_note_says_from_where_on_the_model_is_told(talk: Talk) -> None:
    for word in ("one", "two", "three"):
        talk.say(word)
        answered(talk, f"{word}!")
    talk.note("They count.", keeps=2)
    talk.say("four")
    assert talk.messages() == [
        {"role": "user", "content": "A summary of our conversation so far:\n\nThey count.\n\nthree"},
        {"role": "assistant", "content": "three!"},
        {"role": "user", "content": "four"},
    ]
    talk.note("", keeps=1)
    assert [message["content"] for message in talk.messages()] == ["four"]


def test_answers_without_their_question_are_not_told_first(talk: Talk) -> None:
    talk.say("q")
    answered(talk, "a")
    talk.note("", keeps=1)
    talk.say("next")
    assert talk.messages() == [{"role": "user", "content": "next"}]
