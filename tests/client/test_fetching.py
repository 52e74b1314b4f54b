"""A model that is fetched by a process of its own: how far it is, what went wrong, and who ends it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mlxrun.client import ClientError, fetch

STEPS = 'print(\'{"completed": 0, "total": 30}\\n{"completed": 20, "total": 30, "digest": "ab"}\', flush=True)\n'


class Unwanted(RuntimeError):
    """What ends a fetch."""


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def unheard(done: int, total: int) -> None:
    """Nobody shows a bar."""


def test_bytes_are_told_and_then_the_place() -> None:
    heard: list[tuple[int, int]] = []
    code = STEPS + "import sys\nprint('{\"place\": \"/models/' + sys.argv[1] + '\"}', flush=True)"
    assert fetch("name", lambda done, total: heard.append((done, total)), program(code)) == Path("/models/name")
    assert heard == [(0, 30), (20, 30)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('print(\'{"error": "The hub has no model name."}\')', "The hub has no model name."),
        (STEPS + "import os; os._exit(3)", "name could not be fetched: what fetches it died."),
    ],
)
def test_what_went_wrong_is_one_sentence(code: str, said: str) -> None:
    with pytest.raises(ClientError) as told:
        fetch("name", unheard, program(code))
    assert str(told.value) == said


def test_a_process_that_says_nothing_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """It says its own number and its child's, and hangs."""
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'own')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'own')!r}, {str(tmp_path / 'both')!r})\n"
        "time.sleep(600)\n"
    )

    def progress(done: int, total: int) -> None:
        assert (done, total) == (0, 0)
        if (tmp_path / "both").exists():
            raise Unwanted

    with pytest.raises(Unwanted):
        fetch("name", progress, program(code))
    own, child = map(int, (tmp_path / "both").read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(own, 0)
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """An ended one whose parent is gone may still wait for somebody to hear of it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
