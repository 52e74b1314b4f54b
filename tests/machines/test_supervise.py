"""Who is begun anew and who is not, with processes that are scripts: each reads who it is, and acts its part."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mlxrun.machines import supervise
from mlxrun.machines.hostfile import HostEntry, Hostfile
from mlxrun.machines.messages import Start, unpack
from mlxrun.machines.supervise import AGAIN, ServeCommand, Supervisor, ssh

PART = """#!{python} -SE
import json, os, sys, time
start = json.loads(sys.stdin.readline())
life = 0
if start["rank"] == 0:
    with open({lives!r}, "r+") as lives:
        life = len(lives.read())
        lives.write("x")
    with open({told!r} + str(life), "w") as told:
        json.dump(start, told)
def ready(): os.write(start["beat"], b"R")
def wait(): sys.stdin.read()
{part}
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(supervise.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(supervise, "LOOK", 0.02)
    return []


def run(folder: Path, said: list[str], part: str, silence: float = 20.0) -> tuple[int, int]:
    """Its exit code, and how many lives there were. `part`: what each process does, in its `life`."""
    lives, script = folder / "lives", folder / "python"
    lives.write_text("")
    script.write_text(PART.format(python=sys.executable, lives=str(lives), told=str(folder / "told"), part=part))
    script.chmod(stat.S_IRWXU)
    host = HostEntry("127.0.0.1", "127.0.0.1", python=str(script))
    command = ServeCommand(("serve", "tiny"), (), said.append)
    code = Supervisor(Hostfile((host, host), silence=silence), command).run()
    return code, len(lives.read_text())


def test_a_group_that_was_ready_begins_anew_until_it_ends_well(tmp_path: Path, said: list[str]) -> None:
    part = f"wait() if start['rank'] else (ready(), sys.exit({AGAIN} if life < 2 else 0))"
    assert run(tmp_path, said, part) == (0, 3)
    assert said == ["All machines begin anew."] * 2
    told = [json.loads((tmp_path / f"told{life}").read_text()) for life in range(3)]
    assert len({one["secret"] for one in told}) == 3, "each start has a secret of its own"
    assert all(isinstance(unpack(json.dumps(one).encode()), Start) for one in told)


def test_a_first_start_that_fails_is_not_tried_again(tmp_path: Path, said: list[str]) -> None:
    assert run(tmp_path, said, "wait() if start['rank'] else sys.exit(2)") == (2, 1)
    assert said == []


def test_a_later_start_that_fails_is_tried_again(tmp_path: Path, said: list[str]) -> None:
    part = "wait() if start['rank'] else ready() if life != 1 else 0\nsys.exit((75, 2, 0)[life])"
    assert run(tmp_path, said, part) == (0, 3)
    assert said == ["All machines begin anew.", "All machines begin anew in 1 s."]


def test_a_machine_that_ends_before_the_group_is_complete_is_named(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LAST_WORDS", 0.1)
    code, lives = run(tmp_path, said, "sys.exit(3) if start['rank'] else wait()")
    assert (code, lives) == (-9, 1)
    assert said == ["127.0.0.1 (machine 1) ended with code 3."]


def test_a_first_process_that_says_nothing_any_more_is_ended(tmp_path: Path, said: list[str]) -> None:
    part = "wait() if start['rank'] or life == 0 and not ready() else ready()\nsys.exit(0)"
    assert run(tmp_path, said, part, silence=0.3) == (0, 2)
    assert said == ["127.0.0.1 said nothing for 0.3 s; its process is ended.", "All machines begin anew."]


def test_what_ssh_is_told_is_quoted() -> None:
    told = ssh("mini", ["/opt/my python/bin/python", "-m", "mlxrun", "serve", "a b"], {"A": "1;2"})
    assert told[-2] == "mini"
    assert "A='1;2' exec '/opt/my python/bin/python' -m mlxrun serve 'a b'" in told[-1]
    assert os.getcwd() in told[-1]
