"""Answers that are kept: for how long, how many, where, and that nobody else can read them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import RequestError
from mlxrun.server.stored import StoredAnswers
from mlxrun.server.stored_file import NAME


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def response(name: str, previous: str | None = None, text: str = "") -> dict[str, Any]:
    item = {"id": f"msg_{name}", "type": "message", "text": text}
    return {"id": name, "previous_response_id": previous, "output": [item]}


def keep(stored: StoredAnswers, name: str, previous: str | None = None, text: str = "") -> None:
    stored.keep(response(name, previous, text), b'[{"id":"in_%s"}]' % name.encode(), [f"in_{name}"])


@pytest.fixture(params=["memory", "disk"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "store" if request.param == "disk" else None


def test_a_chain_is_told_oldest_first(places: Path | None) -> None:
    stored = StoredAnswers(places)
    keep(stored, "a")
    keep(stored, "b", "a")
    keep(stored, "c", "b")
    assert [record.id for record in stored.chain("c") or ()] == ["a", "b", "c"]
    assert stored.item("msg_b") == response("b")["output"][0]
    assert stored.item("in_b") == {"id": "in_b"}
    assert stored.delete("b") is True
    assert stored.delete("b") is False
    assert stored.chain("c") is None
    assert stored.item("msg_b") is None
    stored.close()


def test_an_answer_is_kept_for_a_day(places: Path | None) -> None:
    clock = Clock()
    stored = StoredAnswers(places, seconds=10, now=clock)
    keep(stored, "a")
    clock.now += 9
    assert stored.find("a") is not None
    clock.now += 2
    assert stored.find("a") is None
    assert stored.item("msg_a") is None
    stored.close()


def test_what_was_not_used_for_longest_goes_first() -> None:
    stored = StoredAnswers(limit=1000)
    for name in "abc":
        keep(stored, name, text="x" * 200)
    assert stored.find("a") is not None
    keep(stored, "d", text="x" * 200)
    assert [name for name in "abcd" if stored.find(name)] == ["a", "c", "d"]
    keep(stored, "e", text="x" * 2000)  # more than there is room for
    assert [name for name in "abcde" if stored.find(name)] == []
    assert stored.item("msg_a") is None


def test_on_disk_it_outlives_the_server_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    first = StoredAnswers(folder)
    keep(first, "a", text="secret words")
    first.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
    again = StoredAnswers(folder)
    record = again.find("a")
    assert record is not None
    assert record.told() == response("a", text="secret words")
    assert again.item("in_a") == {"id": "in_a"}
    assert again.delete("a") is True
    again.close()
    assert b"secret words" not in (folder / NAME).read_bytes()


def test_on_disk_there_is_only_so_much(tmp_path: Path) -> None:
    stored = StoredAnswers(tmp_path, limit=1000, now=Clock())
    for name in "abcdef":
        keep(stored, name, text="x" * 300)
    stored.close()
    again = StoredAnswers(tmp_path, limit=1000, now=Clock())
    assert [name for name in "abcdef" if again.find(name)] == ["e", "f"]
    assert again.item("msg_a") is None
    again.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match=r"--store .*: answers cannot be kept there"):
        StoredAnswers(tmp_path / "file")
    (tmp_path / NAME).write_text("this is no database" * 100)
    with pytest.raises(RequestError, match="cannot be kept there: file is not a database"):
        StoredAnswers(tmp_path)
