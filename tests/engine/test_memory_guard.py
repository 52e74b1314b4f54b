"""More work than memory: every request is answered or refused with a reason, and the process stays within its plan."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlxrun.core import Event, Finish, Refusal, Request, Sampling
from mlxrun.engine import memory_guard
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, fit, load_model
from mlxrun.memory.headroom import Headroom, footprint
from mlxrun.memory.machine import private_bytes
from mlxrun.memory.wiring import Policy, Wiring
from tests.golden.checkpoint import reference
from tests.golden.checkpoint import write as write_tiny
from tests.macs import Mac, become
from tests.unit.memory.outlines import LLAMA_32_3B, write
from tests.unit.memory.test_headroom import FakeMetal

MIB = 2**20
SHAPE = {
    **LLAMA_32_3B,
    "hidden_size": 128,
    "intermediate_size": 128,
    "head_dim": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 8,  # 32 KiB a token
    "vocab_size": 512,
    "max_position_embeddings": 8192,
}
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("wide"), SHAPE, None)


def prompt(length: int, first: int) -> tuple[int, ...]:
    return (first, *(n % 40 for n in range(1, length)))


def ended(engine: Engine, requests: list[Request]) -> list[Event]:
    return [list(handle)[-1] for handle in [engine.submit(request) for request in requests]]


def test_a_soak_ends_with_every_request_answered_or_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched() -> int:
        seen.append(footprint())
        return seen[-1]

    monkeypatch.setattr(memory_guard, "Headroom", lambda budget, before: Headroom(budget, before, measure=watched))
    engine = Engine.start(lambda: load_model(folder, options=LoadOptions(memory=300 * MIB)))
    limit = engine._guard.headroom.limit
    lengths = (1500, 400, 1200, 1700, 100, 1400, 20, 1900, 1000, 1600)
    requests = [Request(prompt(n, i), 12, GREEDY) for i, n in enumerate(lengths)]
    try:
        for last in ended(engine, requests):
            assert last.finish in (Finish.LENGTH, Finish.STOP, Finish.REFUSED, Finish.FAILED)
            if last.finish in (Finish.REFUSED, Finish.FAILED):
                assert "memory" in (last.reason or "").lower()
        again = ended(engine, [Request(prompt(50, 7), 4, GREEDY)])[0]
    finally:
        engine.close()
    assert again.finish is Finish.LENGTH
    assert max(seen) < limit + 64 * MIB, f"{max(seen) / MIB:.0f} of {limit / MIB:.0f} MiB"


def test_what_cannot_ever_fit_is_refused_with_numbers(folder: Path) -> None:
    engine = Engine.start(lambda: load_model(folder, options=LoadOptions(memory=280 * MIB, anyway=True)))
    try:
        last = ended(engine, [Request(prompt(8000, 0), 4, GREEDY)])[0]
        short = ended(engine, [Request(prompt(60, 0), 4, GREEDY)])[0]
    finally:
        engine.close()
    assert (last.finish, last.refusal) == (Finish.REFUSED, Refusal.CONTEXT)
    assert last.reason is not None
    assert "A prompt of 8000 tokens needs about" in last.reason
    assert short.finish is Finish.LENGTH


def test_a_file_that_changes_ends_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        lost = unchanged = False

    engine = Engine.start(lambda: load_model(folder))
    try:
        engine._files._held = replace(engine._files._held, files=(Changed(),))
        last = ended(engine, [Request(prompt(60, 0), 4, GREEDY)])[0]
    finally:
        engine.close()
    assert last.reason is not None
    assert "has changed on disk" in last.reason


def opened_and_closed(place: Path, tokens: int = 2000) -> Engine:
    engine = Engine.start(lambda: load_model(place))
    ended(engine, [Request(prompt(tokens, 0), 2, GREEDY)])
    engine.close()
    return engine


def test_unloading_gives_the_memory_back(tmp_path: Path, folder: Path) -> None:
    opened_and_closed(folder)  # threads and pools that stay
    before = private_bytes() or 0
    others = [write_tiny(reference(name).checkpoint(), tmp_path / name) for name in ("gpt_oss", "qwen3_next")]
    closed = [opened_and_closed(place, tokens) for place, tokens in ((folder, 2000), *((one, 30) for one in others))]
    assert (private_bytes() or 0) - before < 20 * MIB
    assert closed[0].memory().cache == 0  # it may still be asked


def test_the_starter_leaves_less_than_50_mb(smollm2_gguf: Path) -> None:
    """In a process of its own: what other tests left may be taken or given back meanwhile."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.engine.test_memory_guard import opened_and_closed, private_bytes\n"
        "place = Path(sys.argv[1]); opened_and_closed(place, 600); before = private_bytes()\n"
        "for _ in range(3): opened_and_closed(place, 600)\n"
        "print(private_bytes() - before)"
    )
    command = [sys.executable, "-c", code, str(smollm2_gguf)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 50e6


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("wire", ["off", "weights", "max"])
def test_what_is_wired_is_what_was_asked_for(
    wire: Policy, gpu: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the loader; the machine says that it has a GPU, and Metal is a stand-in."""
    metal = FakeMetal()
    monkeypatch.setattr(memory_guard, "Wiring", lambda policy: Wiring(policy, metal))
    here = fit.this_machine()
    monkeypatch.setattr(fit, "this_machine", lambda: here)  # not so small a Mac's
    if gpu:
        become(monkeypatch, Mac({"max_recommended_working_set_size": 1000}))
    engine = Engine.start(lambda: load_model(folder, options=LoadOptions(wire=wire)))
    wired = {"off": [], "weights": [900] * 2, "max": [1000] * 2}[wire] if gpu else []
    assert metal.calls == wired
    assert engine.used().wired == (wired[0] if wired else None)
    told = engine.used().wiring
    assert told.startswith("Wired: 0.0 MB" if wired else "Not wired: ")
    assert ("the weights take" in told) == (gpu and wire == "weights")
    assert engine.notes.count(told) == bool(wired)
    engine.close()
    assert metal.calls == (wired and [*wired, -1, 7])


def test_a_refused_kernel_is_told_of(folder: Path) -> None:
    engine = Engine.start(lambda: load_model(folder, options=LoadOptions()))
    try:
        assert engine.used().refused == ()
        chooser = engine.model.holdings.chooser
        assert chooser is not None
        chooser.refuse("matmul 1 4x4", "small", "it has too many threads")
        (said,) = engine.used().refused
        assert "matmul 1 4x4 (small)" in said
        assert said in engine.notes
    finally:
        engine.close()


class Asked:
    """A scheduler that only listens."""

    busy = True

    def __init__(self) -> None:
        self.said: list[object] = []

    def refuse_new(self, reason: str | None) -> None:
        self.said.append(reason)

    def forget(self, wanted: int) -> None:
        self.said.append(wanted)

    def make_room(self, reason: str) -> None:
        self.said.append("somebody stops")


def test_the_system_is_not_asked_for_each_pass_while_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, asked, now = [0], [0], [0.0]

    def measure() -> int:
        asked[0] += 1
        return taken[0]

    monkeypatch.setattr(memory_guard, "Headroom", lambda budget, before: Headroom(budget, before, measure=measure))
    monkeypatch.setattr(memory_guard.time, "monotonic", lambda: now[0])
    guard = memory_guard.MemoryGuard(load_model(folder, options=LoadOptions(memory=300 * MIB)))
    assert guard.headroom is not None
    scheduler = Asked()
    for _ in range(100):
        guard.look(scheduler)
    assert asked[0] == 1
    now[0] += 0.2
    taken[0] = guard.headroom.limit - 1  # little is left: from now on each pass counts
    for _ in range(10):
        guard.look(scheduler)
    assert asked[0] == 11
    taken[0] = guard.headroom.limit + (1 << 30)
    guard.look(scheduler)
    assert scheduler.said[-1] == "somebody stops"
