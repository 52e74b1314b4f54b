"""One small model on two machines of loopback: it answers as one process does, a lost machine costs 503 and no more.

`make machines` asks the same of more machines, a real model, and every way to be lost.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.process import SECONDS, Serving, serving
from tests.server.tiny import write_tiny

from .processes import ranks, together, written

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
ASKED = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0, "logprobs": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), 1024)


@pytest.fixture(scope="module")
def group(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with together(folder, written(tmp_path_factory.mktemp("machines"), 2)) as own:
        yield own


def answer(own: Serving, **more: Any) -> dict[str, Any]:
    said = own.post("/v1/completions", {**ASKED, **more})
    assert said.status_code == 200, said.text
    choice: dict[str, Any] = said.json()["choices"][0]
    return choice


def test_answers_are_those_of_one_process(group: Serving, folder: Path) -> None:
    with serving(str(folder)) as alone:
        for more in ({}, {"temperature": 1, "seed": 5}, {"prompt": "b" * 700}, {"prompt": "b" * 700 + "c"}):
            assert answer(group, **more) == answer(alone, **more)
    assert any("layer 0 on 127.0.0.1, layer 1 on 127.0.0.1" in line for line in group.said)


def test_a_machine_that_is_killed_costs_503_and_all_begin_anew(group: Serving) -> None:
    before, old = answer(group), ranks(group)
    body = {**ASKED, "max_tokens": 900, "stream": True}
    with httpx.stream("POST", f"{group.url}/v1/completions", json=body, timeout=SECONDS) as stream:
        lines = stream.iter_lines()
        next(lines)
        os.kill(old[1], signal.SIGKILL)
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "begin anew" in told[-1]["error"]["message"]
    assert answered_again(group) == before
    assert not set(ranks(group)) & set(old)


def test_a_signal_ends_all_of_them(group: Serving) -> None:
    own = ranks(group)
    assert group.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in own)


def answered_again(own: Serving) -> dict[str, Any]:
    """Those who ask meanwhile are told to come again, or wait; who asks as the process ends has no answer."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            said = own.post("/v1/completions", ASKED)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            continue
        if said.status_code == 200:
            choice: dict[str, Any] = said.json()["choices"][0]
            return choice
        assert said.status_code == 503, said.text
        assert said.headers["retry-after"]
        assert time.monotonic() < deadline
        time.sleep(0.2)
