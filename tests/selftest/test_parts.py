"""Single parts where something is wrong: it is seen, and told by its name."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Event, Finish
from mlxrun.engine.engine import Engine
from mlxrun.parts import Piece, Token
from mlxrun.selftest import PARTS, endurance, families, mapping, planned, starter, tuning
from mlxrun.selftest.held import MIB, HeldNow, held
from mlxrun.selftest.results import NotRun
from mlxrun.store import starter as store_starter
from mlxrun.tune.measure import Timing
from mlxrun.tune.picks import Pick

from .heard import check_of, notes_of


def test_there_are_ten_and_one_of_them_twice() -> None:
    assert len(PARTS) == 11
    assert len({part.name for part in PARTS}) == 11
    assert [part.name for part in PARTS if part.environ] == ["validated"]
    assert sum(part.seconds for part in PARTS if part.name not in ("endurance", "validated")) < 300


# ---- families -------------------------------------------------------------------------------------


@pytest.fixture
def one_family(monkeypatch: pytest.MonkeyPatch) -> families.FamilyCase:
    (case,) = (case for case in families.cases() if case.name == "qwen3")
    monkeypatch.setattr(families, "cases", lambda: iter([case]))
    return case


def test_a_family_that_is_right(one_family: families.FamilyCase) -> None:
    said, heard, notes = notes_of(families.compare)
    assert not notes.bad
    assert said.startswith("1 models, the worst off by ")
    assert 0 < heard.numbers["differences"]["qwen3"] < families.ALLOWED


def test_a_family_that_computes_something_else(
    one_family: families.FamilyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = dataclasses.replace(one_family, expected=np.roll(one_family.expected, 1))
    monkeypatch.setattr(families, "cases", lambda: iter([wrong]))
    _, heard, notes = notes_of(families.compare)
    assert notes.bad[0].startswith("qwen3: off by ")
    assert not check_of(heard, "qwen3")["good"]


def test_two_mixtures_may_choose_other_experts_and_no_third(
    one_family: families.FamilyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = one_family.expected + 0.02 * np.abs(one_family.expected).max()
    off = [dataclasses.replace(one_family, name="qwen3", expected=expected, mixture=True)] * 3
    monkeypatch.setattr(families, "cases", lambda: iter(off[:2]))
    _, heard, notes = notes_of(families.compare)
    assert not notes.bad
    assert heard.numbers["perhaps_other_experts"] == ["qwen3", "qwen3"]
    monkeypatch.setattr(families, "cases", lambda: iter(off))
    assert len(notes_of(families.compare)[2].bad) == 1


def test_families_that_there_is_no_time_for(one_family: families.FamilyCase) -> None:
    with pytest.raises(NotRun, match="no time"):
        notes_of(families.compare, seconds=families.SPARE / 2)


# ---- files and plans ------------------------------------------------------------------------------


def test_a_value_that_is_not_as_written_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = mapping.open_checkpoint

    def opened(folder: Path) -> Any:
        found = true(folder).tensors()
        found["model.layers.3.mlp.up_proj.weight"] = found["model.layers.3.mlp.up_proj.weight"] * 2
        return SimpleNamespace(tensors=lambda: found)

    monkeypatch.setattr(mapping, "open_checkpoint", opened)
    _, heard, notes = notes_of(mapping.load_and_let_go)
    assert notes.bad == ["values: 1 are not as they were written: model.layers.3.mlp.up_proj.weight"]
    assert check_of(heard, "closed")["good"]


def test_a_plan_that_promises_too_little_is_seen() -> None:
    for planned_bytes, good in ((100 * MIB, True), (60 * MIB, False)):
        _, heard, _ = notes_of(lambda n, size=planned_bytes: planned.beside(n, "weights", size, 100 * MIB) or "")
        assert check_of(heard, "weights")["good"] is good


# ---- the starter model ----------------------------------------------------------------------------


def assistant_that_says(tokens: list[int]) -> Any:
    pieces = [Piece(tokens=tuple(Token(b"x", 0.0, (), token) for token in tokens)), Piece(finish=Finish.STOP)]
    tokenizer = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))
    return SimpleNamespace(chat=lambda messages, wish: iter(pieces), tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("tokens", "good", "said"),
    [
        ([5, 6, 7], True, "3 of 3 tokens as recorded"),
        ([5, 9, 8], True, "token 1 is another one; the recorded one was 0.10 of a logit ahead, and 0.3 is near"),
        ([4, 6, 7], False, "token 0 is another one; the recorded one was 3.00 of a logit ahead, and 0.3 is near"),
        ([5, 6], False, "2 of 3 tokens as recorded"),
        ([], False, "0 of 3 tokens as recorded"),
    ],
)
def test_another_token_is_a_fault_unless_it_was_near(tokens: list[int], good: bool, said: str) -> None:
    known = starter.Recorded("Who?", (5, 6, 7), (3.0, 0.1, 2.0))
    _, heard, _ = notes_of(lambda n: str(starter.compare(assistant_that_says(tokens), known, n)))
    assert (check_of(heard, "Who?")["good"], check_of(heard, "Who?")["said"]) == (good, said)


def test_without_the_model_it_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    with pytest.raises(NotRun, match="mlxrun pull smollm2"):
        notes_of(starter.answer)
    assert not (tmp_path / "models").exists()


def test_the_command_says_why_it_could_not_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlxrun.cli import selftest
    from mlxrun.spec import ModelError

    def refused(*_: object) -> None:
        raise ModelError("no network.")

    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setattr(store_starter, "fetch", refused)
    assert "pull smollm2" in selftest.missing_starter(quick=True)["starter"]
    told = selftest.missing_starter(quick=False)
    assert told == {"starter": "The starter model is not here and could not be fetched: no network."}


# ---- kernels that are chosen ----------------------------------------------------------------------


def test_what_was_measured_is_told_and_a_refused_kernel_is_a_fault() -> None:
    timings = [
        Timing("matmul 1 a", "standard", 0.001, 0.002, Pick("standard", ("standard",))),
        Timing("matmul 1 a", "wide", 0.003, 0.001, Pick("standard", ("standard", "wide"))),
        Timing("best 1 b", "standard", 0.003, 0.001, Pick("mlx", ("standard",))),
    ]
    said, heard, notes = notes_of(lambda n: tuning.told(n, timings))
    assert not notes.bad
    assert said == "2 shapes measured, ours quicker for 1"
    assert heard.numbers["picks"] == {"matmul 1 a": "standard", "best 1 b": "mlx"}
    refused = Timing("heads 1 c", "standard", float("inf"), 0.0, Pick(), "the compiler says no\nand more")
    assert notes_of(lambda n: tuning.told(n, [refused]))[2].bad == ["heads 1 c: standard: the compiler says no"]


# ---- loads and requests ---------------------------------------------------------------------------


def test_what_is_left_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = HeldNow(private=100 * MIB, arrays=0, descriptors=10, threads=4)
    for name, value in (("private", 125 * MIB), ("arrays", 2 * MIB), ("descriptors", 11), ("threads", 6)):
        now = dataclasses.replace(before, **{name: value})
        monkeypatch.setattr(endurance, "held", lambda now=now: now)
        _, heard, notes = notes_of(lambda n: endurance.left_behind(n, "3 loads", before) or "")
        assert len(notes.bad) == 1
        assert not check_of(heard, f"{name}, 3 loads")["good"]


def test_a_descriptor_and_an_array_are_held() -> None:
    before = held()
    kept = mx.zeros((MIB,))
    mx.eval(kept)
    with open("/dev/null"):
        grown = held().since(before)
    assert grown["descriptors"] == 1
    assert grown["arrays"] >= 4 * MIB
    del kept
    assert held().since(before)["descriptors"] == 0


class Handle:
    def __iter__(self) -> Iterator[Event]:
        yield Event(finish=Finish.FAILED, reason="it broke")

    def cancel(self) -> None:
        """It ends all the same."""


def test_a_request_that_ends_otherwise_is_a_fault() -> None:
    engine: Engine = SimpleNamespace(model=SimpleNamespace(vocab=9), submit=lambda request: Handle())  # type: ignore[assignment]  # all that is asked of it
    finished = Counter[str]()
    _, _, notes = notes_of(
        lambda n: endurance.ask(engine, endurance.random.Random(1), ["greedy", "too long"], finished, n) or ""
    )
    assert notes.bad == ["greedy: it ended as failed: it broke", "too long: it ended as failed: it broke"]
    assert finished == {"greedy": 1, "too long": 1}
