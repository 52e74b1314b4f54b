"""The registry over real engines and a real memory plan: they answer side by side, and go for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine import memory_guard
from mlxrun.engine.engine import Engine
from mlxrun.engine.registry import Beside, NoRoom, Registry, RegistryLimits
from mlxrun.loading import LoadOptions, load_model
from tests.unit.memory.outlines import write

from .test_memory_guard import SHAPE, prompt

MIB = 2**20
GREEDY = Sampling(temperature=0.0)
NAMES = ("a", "b", "c")
LEAST = 2048  # tokens


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("several")
    return {name: write(place / name, {**SHAPE, "num_hidden_layers": 2 + i}, None) for i, name in enumerate(NAMES)}


def engines(folders: dict[str, Path], memory: int | None, contexts: list[int]) -> Callable[[str, Beside], Engine]:
    def load(name: str, beside: Beside) -> Engine:
        how = LoadOptions(memory=memory, others=beside.others, least=None if beside.last else LEAST)
        engine = Engine.start(lambda: load_model(folders[name], options=how))
        contexts.append(engine.context)
        return engine

    return load


def said(engine: Engine, length: int = 40) -> list[int]:
    events = list(engine.submit(Request(prompt(length, 1), 12, GREEDY)))
    assert events[-1].finish is Finish.LENGTH
    return [token for event in events for token in event.tokens]


def alone(folder: Path) -> list[int]:
    engine = Engine.start(lambda: load_model(folder))
    try:
        return said(engine)
    finally:
        engine.close()


def test_they_answer_at_the_same_time_as_each_does_alone(folders: dict[str, Path]) -> None:
    expected = {name: alone(folders[name]) for name in NAMES}
    own = Registry(engines(folders, None, []), RegistryLimits(most=2, keep=0.01))
    found: list[tuple[str, list[int]]] = []

    def client(first: int) -> None:
        for number in range(6):
            name = NAMES[(first + number) % 3]
            with own.lease(name).result(60) as engine:
                found.append((name, said(engine)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own.close()
    assert len(found) == 24
    assert all(tokens == expected[name] for name, tokens in found)


def loaded(own: Registry[Engine]) -> set[str]:
    return {state.name for state in own.states()}


def test_what_is_granted_is_for_all_together(folders: dict[str, Path]) -> None:
    """There is room for both, for the second with a shorter context."""
    contexts: list[int] = []
    own = Registry(engines(folders, 300 * MIB, contexts), RegistryLimits(patience=0.0))
    try:
        own.lease("a").result(60).release()
        with own.lease("b").result(60) as engine:
            said(engine)
        assert loaded(own) == {"a", "b"}
        assert LEAST <= contexts[1] < contexts[0]
    finally:
        own.close()


def test_idle_ones_go_before_a_context_is_cut_short(folders: dict[str, Path]) -> None:
    contexts: list[int] = []
    own = Registry(engines(folders, 250 * MIB, contexts), RegistryLimits(patience=0.0))
    try:
        own.lease("a").result(60).release()
        own.lease("b").result(60).release()
        assert loaded(own) == {"b"}
        assert min(contexts) >= LEAST
    finally:
        own.close()


def test_beside_one_that_is_in_use_there_is_no_room(folders: dict[str, Path]) -> None:
    own = Registry(engines(folders, 200 * MIB, []), RegistryLimits(patience=0.0))
    try:
        with own.lease("a").result(60) as engine:
            with pytest.raises(
                NoRoom, match=r"no room for 'b' beside 'a' \(0\.0 GiB, in use\)\. This model does not fit"
            ):
                own.lease("b").result(60)
            said(engine)
        own.lease("b").result(60).release()
        assert loaded(own) == {"b"}
    finally:
        own.close()


def test_a_model_that_comes_later_takes_from_the_same_memory(folders: dict[str, Path]) -> None:
    """Pages of files that another one maps are memory that the first cannot have any more, until it goes."""
    first, second = (Engine.start(lambda name=name: load_model(folders[name])) for name in "ab")
    try:
        headroom = first._guard.headroom
        assert headroom is not None
        limit = headroom.limit
        memory_guard.MAPPED.want(second._guard, 64 * MIB)
        assert headroom.limit == limit - 64 * MIB
    finally:
        second.close()
    assert headroom.limit == limit
    first.close()
