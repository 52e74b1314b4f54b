"""Where the terminal UI gets its model from."""

from __future__ import annotations

from typing import Any

import pytest
from mlxrun.tui.backend import KEY, Joining, OpenedClient, ThisMachine

from mlxrun import client

HERE: Any = object()
THERE: Any = object()
SERVER = "http://127.0.0.1:8080"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> ThisMachine:
    """One with a server that wants the key "right"."""

    def connect(url: str, key: str | None = None, *, model: str | None = None) -> Any:
        if key != "right":
            raise client.ClientError("This server needs its key.")
        return THERE

    monkeypatch.setattr(client, "find_server", lambda: SERVER)
    monkeypatch.setattr(client, "connect", connect)
    monkeypatch.setattr(client, "load_watched", lambda name, progress: HERE)
    return ThisMachine()


def test_a_running_server_is_joined(machine: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "right")
    assert machine.open("smollm2", join=Joining.ANY) == OpenedClient(THERE, SERVER)
    assert machine.open("smollm2", join=Joining.NEVER) == OpenedClient(HERE)
    assert machine.open("smollm2", SERVER, join=Joining.NEVER) == OpenedClient(THERE, SERVER)


def test_one_that_does_not_let_us_in_is_left_alone(machine: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert machine.open("smollm2", join=Joining.ANY) == OpenedClient(HERE)
    with pytest.raises(client.ClientError):
        machine.open("smollm2", SERVER, join=Joining.NEVER)


def test_without_a_server_the_model_is_loaded(machine: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "find_server", lambda: None)
    assert machine.open("smollm2", join=Joining.ANY) == OpenedClient(HERE)
