"""The list of models: filter, details, copies, names that are typed, the hub; models that come and go."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from mlxrun.tui.backend import Phase, ThisMachine

from mlxrun import client
from mlxrun.client.arrival import watched
from mlxrun.store.arriving import Coming

from .fakes import chat, said
from .helpers import hides, idle, in_app, running, send, shows, until


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


@in_app
async def test_the_model_that_was_named_is_opened_in_a_session_of_its_own(folder: Path) -> None:
    app, _ = chat(folder, said("Yes."))
    async with running(app) as pilot:
        await send(pilot, "Before")
        await idle(pilot)
        app.sessions.close()
    again, backend = chat(folder, model="big [bold]")
    async with running(again) as pilot:
        assert backend.opened == ["big [bold]"]
        assert again.chat.talk is not None
        assert again.chat.talk.turns == []
        await shows(pilot, "● big [bold]", "big [bold] is ready")


@in_app
async def test_a_model_is_fetched_beside_the_one_that_runs_stopped_and_gone_on_with(folder: Path) -> None:
    app, backend = chat(folder, said("Still here."), far=["org/name"])
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "17.3 GB")
        await pilot.press(*"org/name", "enter")
        await shows(pilot, "org/name", "━━━━━───── 50% of 1.0 GB · ctrl+x")
        await pilot.press("ctrl+x")
        await shows(pilot, "stopped at 50% · enter goes on")
        await pilot.press("escape")
        await send(pilot, "Are you there?")
        await shows(pilot, "Still here.")
        await pilot.press("ctrl+l")
        await shows(pilot, "stopped at 50%")
        await pilot.press(*"org/n", "enter")
        await shows(pilot, "50% of 1.0 GB · ctrl+x")
        await pilot.press("escape")
        backend.arrives.set()
        await shows(pilot, "org/name has arrived; ctrl+l changes")
    assert (backend.fetched, backend.opened) == (["org/name"] * 2, ["smollm2"])


@in_app
async def test_what_cannot_be_fetched_is_told(folder: Path) -> None:
    app, _ = chat(folder, far=["org/lost"], broken={"org/lost": "The hub has no model \x1b[31morg/lost."})
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "17.3 GB")
        await pilot.press(*"org/lost", "enter")
        await shows(pilot, "The hub has no model", "␛[31morg/lost.")


@in_app
async def test_the_hub_is_searched(folder: Path) -> None:
    found = ["org/qwen-new", "evil/\x1b[31mqwen"]
    app, backend = chat(folder, far=found, hub=found, broken={"nothing": "The hub could not be reached."})
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "17.3 GB")
        await pilot.press("ctrl+s")
        await shows(pilot, "Write what to search the hub for")
        await pilot.press(*"qwen", "ctrl+s")
        await shows(pilot, "org/qwen-new", "evil/␛[31mqwen", "hub, 1,234 times a month")
        await pilot.press("enter")
        await until(pilot, lambda: backend.fetched == ["org/qwen-new"], "it is fetched")
        await pilot.press(*["backspace"] * 4, *"nothing", "ctrl+s")
        await shows(pilot, "The hub could not be reached.")


@in_app
async def test_a_model_is_unloaded_and_comes_again_with_the_next_message(folder: Path) -> None:
    app, backend = chat(folder, said("Yes."))
    async with running(app) as pilot:
        await pilot.press("ctrl+l")
        await shows(pilot, "17.3 GB")
        await pilot.press("ctrl+u")
        await until(pilot, lambda: app.model.phase is Phase.RESTING and backend.clients[0].closed, "it is gone")
        await pilot.press("escape")
        await shows(pilot, "○ tiny  unloaded", "Your next message has tiny come again.")
        await send(pilot, "Are you there?")
        await shows(pilot, "Yes.", "● tiny")
    assert backend.opened == ["smollm2", "tiny"]


@in_app
async def test_a_model_that_has_nothing_to_do_goes(folder: Path) -> None:
    app, _ = chat(folder)
    async with running(app) as pilot:
        await send(pilot, "/unload x")
        await shows(pilot, "/unload takes minutes")
        await send(pilot, "/unload 5")
        await shows(pilot, "goes after 5 minutes")
        app._used -= 299
        app._unload_when_due(time.monotonic())
        assert app.model.phase is Phase.READY
        app._used -= 2
        app._unload_when_due(time.monotonic())
        await shows(pilot, "It had nothing to do for 5 minutes.")
        await send(pilot, "/unload")
        await shows(pilot, "No model is loaded.")


@in_app
async def test_esc_ends_a_load_and_the_next_message_goes_on_with_it(folder: Path) -> None:
    app, backend = chat(folder, said("Yes."), ready=False, coming=(10_000_000, 98_000_000))
    async with running(app, ready=False) as pilot:
        await shows(pilot, "loading 10.0 MB of 98.0 MB")
        await pilot.press("escape")
        await shows(pilot, "○ smollm2  unloaded", "what has arrived is kept")
        await until(pilot, lambda: not app.loading.locked(), "the load ended")
        backend.loaded.set()
        await send(pilot, "Are you there?")
        await shows(pilot, "Yes.")
    assert backend.opened == ["smollm2"]
