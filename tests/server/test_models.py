"""Several models behind one server: who answers, what is told of them, and what becomes of loads that go wrong."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from mlxrun.engine.registry import Beside, NotLoaded, RegistryLimits
from mlxrun.loading.fit import DoesNotFit
from mlxrun.server.app import Server, ServerConfig
from mlxrun.server.dialect import Voice
from mlxrun.server.models import ANY, REMEMBERED, Models
from mlxrun.spec import ModelError

from .scripted import ScriptedEngine, ask, assistant_of, chat, complete, error_of
from .test_exchange import CHAT, Client, asked, run, until

NAMES = ("one", "two", "three")


@dataclass
class Loads:
    """Models that say their own name."""

    broken: dict[str, Exception] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    engines: dict[str, ScriptedEngine] = field(default_factory=dict)
    held: bool = False

    def __call__(self, name: str, beside: Beside) -> Voice:
        self.begun.set()
        while not self.gate.wait(0.005):
            if beside.stopping():
                raise NotLoaded("It was stopped.")
        if (error := self.broken.get(name)) is not None:
            raise error
        engine = self.engines[name] = ScriptedEngine(name, held=self.held)
        assistant = assistant_of(name, engine)
        return Voice(assistant, name, assistant.sampling)


def several(loads: Loads, first: str | None = None, **limits: Any) -> Server:
    loads.gate.set()
    models = Models(loads, lambda: NAMES, first, RegistryLimits(**limits))
    return Server(models, ServerConfig())


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def own(loads: Loads) -> Any:
    server = several(loads)
    yield server
    server.models.close()
    server.close()


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def states(own: Server) -> dict[str, str]:
    return {model["id"]: model["state"] for model in ask(own, "/v1/models").json()["data"]}


def test_each_answers_under_its_name(own: Server) -> None:
    assert states(own) == dict.fromkeys(NAMES, "unloaded")
    assert said(chat(own, model="two")) == "two"
    assert said(complete(own, model="one")) == "one"
    assert chat(own, model="two").json()["model"] == "two"
    assert states(own) == {"two": "loaded", "one": "loaded", "three": "unloaded"}
    told = ask(own, "/v1/models/two").json()
    assert (told["state"], told["context_length"]) == ("loaded", 1000)
    assert "context_length" not in ask(own, "/v1/models/three").json()


def test_a_request_that_names_none(loads: Loads, own: Server) -> None:
    refused = chat(own)
    assert (refused.status_code, error_of(refused)["param"]) == (400, "model")
    assert error_of(refused)["message"] == "model must name one of the models here: 'one', 'two', 'three'."
    assert said(chat(several(loads, "two"))) == "two"


@pytest.mark.parametrize(
    "name",
    [
        "four",
        "../one",
        "/etc/passwd",
        "",
        "one\x00",
        "ONE",
        "https://evil.example/m",
        "one/../two",
        "o" * 10_000,
        "one\n",
    ],
)
def test_a_name_that_is_not_here(own: Server, name: str) -> None:
    refused = chat(own, model=name)
    assert (refused.status_code, error_of(refused)["code"]) == (404, "model_not_found")
    told = error_of(refused)["message"]
    assert "here; 'one', 'two', 'three' are served. Serve with --alias" in told
    assert len(told) < 300
    assert not own.models.loaded()


def test_no_model_is_loaded_for_a_request_that_none_could_serve(own: Server) -> None:
    assert chat(own, model="one", temperature="warm").status_code == 400
    assert not own.models.loaded()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ModelError("The file is cut short."), 503, "The model 'one' could not be loaded: The file is cut short."),
        (DoesNotFit("It takes 9 GiB."), 503, "The model 'one' could not be loaded: It takes 9 GiB."),
        (FileNotFoundError(2, "No such file", "/m/one"), 503, "could not be loaded: /m/one: No such file."),
        (MemoryError(), 503, "The model 'one' could not be loaded: there was not enough memory."),
        (KeyError("x"), 500, "The server made a mistake (KeyError); its log tells more."),
        (NotLoaded("It was stopped."), 503, "The server is stopping."),
    ],
)
def test_a_load_that_fails(own: Server, loads: Loads, error: Exception, status: int, message: str) -> None:
    loads.broken["one"] = error
    refused = chat(own, model="one")
    assert refused.status_code == status
    assert message in error_of(refused)["message"]
    assert said(chat(own, model="two")) == "two"
    loads.broken.clear()
    own.models.clock = lambda: time.monotonic() + REMEMBERED
    assert said(chat(own, model="one")) == "one"


def test_a_load_that_failed_is_not_tried_again_at_once(own: Server, loads: Loads) -> None:
    now = [0.0]
    own.models.clock = lambda: now[0]
    loads.broken["one"] = ModelError("The file is cut short.")
    first = chat(own, model="one")
    loads.begun.clear()
    now[0] = 8.5
    again = chat(own, model="one")
    assert (again.status_code, error_of(again)) == (503, error_of(first))
    assert (first.headers["retry-after"], again.headers["retry-after"]) == ("10", "2")
    assert not loads.begun.is_set()
    now[0] = REMEMBERED
    assert chat(own, model="one").status_code == 503
    assert loads.begun.is_set()


def test_other_names_for_models(loads: Loads) -> None:
    own = several(loads, "one")
    assert chat(own, model="gpt-4o-mini").status_code == 404
    own.models.aliases = {"gpt-4o-mini": "two", "three": "one"}
    assert said(chat(own, model="gpt-4o-mini")) == "two"
    assert said(chat(own, model="three")) == "three"  # a model's own name is never another's
    assert chat(own, model="gpt-5").status_code == 404
    own.models.aliases = {ANY: "two"}
    assert (said(chat(own, model="gpt-5")), said(chat(own))) == ("two", "one")


def test_load_and_unload(own: Server) -> None:
    for path in ("/models/load", "/models/unload"):
        assert error_of(ask(own, path, {"model": "four"}))["code"] == "model_not_found"
        assert error_of(ask(own, path, {"name": "one"}))["message"] == "model is missing."
    assert ask(own, "/models/load", {"model": "one"}).json() == {"success": True}
    assert states(own)["one"] == "loaded"
    assert ask(own, "/models/unload", {"model": "one"}).json() == {"success": True}
    while own.models.loaded():
        pass
    assert ask(own, "/models/unload", {"model": "one"}).json() == {"success": False}


def test_health_tells_who_is_loaded(own: Server) -> None:
    assert ask(own, "/health").json()["models"] == []
    assert ask(own, "/health").json()["model"] is None
    chat(own, model="one")
    (told,) = ask(own, "/health").json()["models"]
    assert (told["name"], told["state"], told["requests"], told["bytes"]) == ("one", "loaded", 0, 7)
    assert told["idle_seconds"] >= 0
    assert ask(own, "/memory").json()["total"] > 0
    assert "mlxrun_memory_bytes" in ask(own, "/metrics").text


def in_a_loop(loads: Loads, test: Callable[[Server], Any], **limits: Any) -> None:
    async def inside() -> None:
        own = several(loads, **limits)
        loads.gate.clear()
        try:
            await test(own)
        finally:
            loads.gate.set()
            await asyncio.to_thread(own.models.close)
            own.close()

    run(inside)


def test_a_client_that_leaves_while_its_model_loads(loads: Loads) -> None:
    async def test(own: Server) -> None:
        client = Client(own, {**CHAT, "model": "one"})
        await until(loads.begun.is_set)
        client.left.set()
        await client.task
        await until(lambda: not own.models.loaded())  # nobody waits for it, so the load has ended
        assert own.traffic.reserve(own.traffic.limit)
        assert not loads.engines

    in_a_loop(loads, test)


def test_stopping_ends_a_load_and_tells_who_waits(loads: Loads) -> None:
    async def test(own: Server) -> None:
        clients = [Client(own, {**CHAT, "model": name}) for name in ("one", "one", "two")]
        await until(loads.begun.is_set)
        await until(lambda: len(own.models.loaded()) == 2)
        own.stop()
        for client in clients:
            await client.task
            assert client.status == 503
            assert b"The server is stopping." in b"".join(client.sent)

    in_a_loop(loads, test)


def test_others_are_answered_while_one_loads(loads: Loads) -> None:
    async def test(own: Server) -> None:
        loads.gate.set()
        first = Client(own, {**CHAT, "model": "one"})
        await first.task
        loads.gate.clear()
        waiting = [Client(own, {**CHAT, "model": "two"}) for _ in range(8)]  # more than there are threads
        await until(lambda: any(one["state"] == "loading" for one in own.models.loaded()))
        again = Client(own, {**CHAT, "model": "one"})
        await again.task
        assert again.status == 200
        assert not any(client.task.done() for client in waiting)
        loads.gate.set()
        for client in waiting:
            await client.task
            assert client.status == 200

    in_a_loop(loads, test)


def test_none_goes_while_it_answers(loads: Loads) -> None:
    async def test(own: Server) -> None:
        loads.held = True
        loads.gate.set()
        client = Client(own, {**CHAT, "model": "one", "stream": True})
        await until(lambda: "one" in loads.engines)
        handle = await asked(loads.engines["one"])
        refused = Client(own, {**CHAT, "model": "two"})
        await refused.task
        assert refused.status == 503
        assert b"no room for 'two' beside 'one'" in b"".join(refused.sent)
        for event in loads.engines["one"].events(handle.request):
            handle.post(event)
        await client.task
        loads.held = False
        after = Client(own, {**CHAT, "model": "two"})
        await after.task
        assert after.status == 200
        assert [model["name"] for model in own.models.loaded()] == ["two"]

    in_a_loop(loads, test, most=1, patience=0.0)


def test_waiting_for_a_load_takes_a_place(loads: Loads) -> None:
    async def test(own: Server) -> None:
        own.traffic.limit = 1
        waiting = Client(own, {**CHAT, "model": "one"})
        await until(loads.begun.is_set)
        refused = Client(own, {**CHAT, "model": "one"})
        await refused.task
        assert refused.status == 429
        loads.gate.set()
        await waiting.task
        assert waiting.status == 200

    in_a_loop(loads, test)
