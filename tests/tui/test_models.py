"""The list of models: filter, details, copies, and names that are typed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mlxrun.tui.backend import ThisMachine

from mlxrun import client
from mlxrun.client.arrival import watched
from mlxrun.store.arriving import Coming

from .fakes import chat
from .helpers import hides, in_app, running, shows, until


@in_app
async def test_what_is_typed_filters_and_a_name_of_the_hub_is_taken(folder: Path) -> None:
    app, backend = chat(folder)
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "big [bold]", "17.3 GB", "fetched when first used")
        await pilot.press(*"smol")
        await hides(pilot, "17.3 GB")
        await pilot.press(*"/x")
        await shows(pilot, "enter opens smol/x")
        await pilot.press("enter")
        await until(pilot, lambda: backend.opened[-1] == "smol/x", "it was opened")


@in_app
async def test_details_and_copies(folder: Path) -> None:
    app, _ = chat(folder)
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "17.3 GB")
        await pilot.press(*"tiny", "ctrl+d")
        await shows(pilot, "llama, 30 layers, 4.5 bits a weight", "4,096 of 8,192 tokens", "42 tokens/s")
        await pilot.press("ctrl+f")
        await shows(pilot, "97.0 MB of copies of tiny are free again.")
        await pilot.press(*["backspace"] * 4, *"big", "ctrl+d")
        await shows(pilot, "There is no model 'big [bold]'.")


def test_here_and_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "room_for_models", lambda: 4 * 10**9)
    found = {choice.name: choice for choice in ThisMachine().choices(None, None)}
    assert found["smollm2"].fits in (True, None)
    assert not found["qwen3:32b"].fits
    assert not found["qwen3:32b"].here


def test_bytes_that_arrive_are_told(tmp_path: Path) -> None:
    heard, came = [], threading.Event()

    def progress(done: int, total: int) -> None:
        heard.append((done, total))
        if done:
            came.set()

    with watched(progress) as told:
        told(Coming(tmp_path, 10))
        (tmp_path / "part").write_bytes(b"1234")
        assert came.wait(20)
    assert heard[-1] == (4, 10)
