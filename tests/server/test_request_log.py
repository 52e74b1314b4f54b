"""The log of requests: a line each, which nobody's words can break or get into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import RequestError
from mlxrun.server.request_log import written

from .scripted import ask, chat, complete, server

SECRET = "the very words of somebody"


def lines_of(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text("utf-8").splitlines()]


def test_a_line_tells_what_happened_and_nothing_that_was_said(tmp_path: Path) -> None:
    place = tmp_path / "log"
    own, _ = server(key="the-key")
    key = {"authorization": "Bearer the-key"}
    with written(str(place)):
        body = {"messages": [{"role": "user", "content": SECRET}], "n": 2, "unknown": SECRET}
        assert ask(own, "/v1/chat/completions?token=" + SECRET, body, headers=key).status_code == 200
        assert ask(own, f"/{SECRET}", headers=key).status_code == 404
        assert ask(own, "/v1/completions", {"prompt": SECRET, "model": SECRET}, headers=key).status_code == 404
        assert ask(own, "/v1/completions", {"prompt": "a"}, headers={"x-api-key": SECRET}).status_code == 401
    text = place.read_text("utf-8")
    assert not any(word in text for word in (SECRET, "the-key", "Hello"))
    good, *refused = lines_of(place)
    assert good["path"] == "/v1/chat/completions"
    assert (good["status"], good["model"], good["answers"], good["finish"]) == (200, "scripted", 2, "stop")
    assert (good["output_tokens"], good["left_out"]) == (10, ["unknown"])
    assert [(line["path"], line["status"]) for line in refused] == [
        ("other", 404),
        ("/v1/completions", 404),
        ("/v1/completions", 401),
    ]
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["a\nb", 'a"}\n{"status": 200', "a\x1b[2J", "\u2028", "x" * 10_000, "a\r\x00"])
def test_a_name_makes_no_line_of_its_own(name: str, tmp_path: Path) -> None:
    place = tmp_path / "log"
    own, _ = server()
    with written(str(place)):
        assert chat(own, **{name: 1}).status_code == 200
    (line,) = lines_of(place)
    assert line["left_out"] == [name[:80]]
    assert place.read_text("utf-8").isascii()


def test_no_log_is_written_where_nobody_asked() -> None:
    with written(None):
        assert complete(server()[0]).status_code == 200


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be written to as a log"), written(str(tmp_path)):
        pass
