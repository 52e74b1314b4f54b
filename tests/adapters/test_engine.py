"""Several adapters of one model under one engine: each answer is what it is alone, and prefixes never cross."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlxrun
from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.adapters import lend_adapter
from mlxrun.engine.aids import Aids
from mlxrun.engine.engine import Engine
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.beside import plan_beside
from mlxrun.loading.loaded_adapters import AdaptersInUse
from mlxrun.loading.open import open_model
from mlxrun.loading.tracing import trace_job
from mlxrun.ops.device import this_device
from tests.server.tiny import write_tiny

from .made import drawn_pairs, stored, write_peft

PROMPT = tuple(index * 7 % 90 for index in range(200))
NAMES = (None, "a", "b")


@dataclass(frozen=True)
class Folder:
    base: Path
    options: LoadOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    place = tmp_path_factory.mktemp("adapted")
    base = write_tiny(place / "base", context=1024)
    pairs = {name: drawn_pairs(stored(base), ord(name)) for name in "ab"}
    adapters = tuple((name, write_peft(place / name, own)) for name, own in pairs.items())
    return Folder(base, LoadOptions(adapters=adapters))


@contextmanager
def running(base: Path, options: LoadOptions, aids: Aids | None = None) -> Iterator[Engine]:
    made = Engine.start(lambda: load_model(base, options=options), aids=aids)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def engine(folder: Folder) -> Iterator[Engine]:
    with running(folder.base, folder.options, Aids(check_answers=True)) as made:
        yield made


def ask(adapter: str | None, prompt: tuple[int, ...] = PROMPT, tokens: int = 24, **more: object) -> Request:
    return Request(prompt, max_tokens=tokens, sampling=Sampling(temperature=0), adapter=adapter, **more)  # type: ignore[arg-type]  # of a request


def answered(engine: Engine, requests: list[Request]) -> list[tuple[tuple[int, ...], int]]:
    """Tokens, and how many of its prompt's were known."""
    handles, told = [engine.submit(request) for request in requests], []
    for handle in handles:
        events = list(handle)
        assert events[-1].finish in (Finish.LENGTH, Finish.STOP), events[-1].reason
        usage = events[-1].usage
        assert usage is not None
        told.append((tuple(token for event in events for token in event.tokens), usage.cached_tokens))
    return told


def test_a_prefix_of_one_never_serves_another(engine: Engine) -> None:
    first = {name: answered(engine, [ask(name)])[0] for name in NAMES}
    assert [cached for _, cached in first.values()] == [0, 0, 0]
    assert len({tokens for tokens, _ in first.values()}) == 3
    again = {name: answered(engine, [ask(name)])[0] for name in NAMES}
    assert [tokens for tokens, _ in again.values()] == [tokens for tokens, _ in first.values()]
    assert all(cached > 100 for _, cached in again.values())


@pytest.mark.skipif(not this_device().native, reason="bits are a row's own where the native kernels compute")
def test_answers_are_the_same_in_any_company(engine: Engine) -> None:
    prompts = [tuple(index * factor % 91 for index in range(40 + factor)) for factor in (3, 5, 11)]
    asked = [ask(name, prompt) for prompt in prompts for name in (*NAMES, "a")]
    alone = [answered(engine, [request])[0][0] for request in asked]
    together = [tokens for tokens, _ in answered(engine, asked)]
    assert together == alone


def test_several_answers_to_one_prompt_have_its_adapter(engine: Engine) -> None:
    handles = engine.submit_choices(ask("b", n=3))
    told = {tuple(token for event in handle for token in event.tokens) for handle in handles}
    assert told == {answered(engine, [ask("b")])[0][0]}


def test_an_unknown_name_is_refused(engine: Engine) -> None:
    (event,) = engine.submit(ask("c"))
    assert event.finish is Finish.REFUSED
    assert event.reason == "This model has no adapter 'c'; there are a, b."


def test_what_an_adapter_read_is_found_on_the_disk_and_checked_with_it(folder: Folder, tmp_path: Path) -> None:
    asked = [ask(None), ask("a")]
    options = replace(folder.options, prefixes=tmp_path / "prefixes", prefix_bytes=1 << 26)
    with running(folder.base, options) as before:
        first = [answered(before, [one])[0][0] for one in asked]
    with running(folder.base, options) as after:
        again = [answered(after, [one])[0] for one in asked]
        prefixes: Any = after._scheduler._prefixes
        counts = prefixes.disk.counts if this_device().native else None
    assert [tokens for tokens, _ in again] == first
    if this_device().native:
        assert all(cached > 100 for _, cached in again)
        assert (counts.restored, counts.mismatches, counts.unchecked) == (2, 0, 0)


def test_a_model_that_drafts_has_no_adapter(folder: Folder) -> None:
    opened = open_model(folder.base)
    large, small = plan_beside(opened, opened, folder.options, None)
    assert large.adapters == folder.options.adapters
    assert small.adapters == ()


def test_python_loads_a_model_with_one(folder: Folder) -> None:
    told = []
    for adapter in (None, folder.options.adapters[0][1]):
        with mlxrun.load(folder.base, adapter=adapter, context=256) as model:
            told.append((model.model, model.complete("Once upon a time", temperature=0, max_tokens=16).text))
    assert [name for name, _ in told] == [str(folder.base), "a"]
    assert told[0][1] != told[1][1]


def test_a_trace_shows_the_model_as_it_is(folder: Folder) -> None:
    """Whoever had an adapter in the pass before."""
    ids = list(PROMPT[:40])
    shown = []
    for options in (replace(folder.options, adapters=()), folder.options):
        with running(folder.base, options) as engine:
            if options.adapters:
                answered(engine, [ask("a")])
            job = trace_job(engine.model, ids, None, "hidden", plain=True)
            engine.embed(job)
            shown.append(job.done.result())
    np.testing.assert_allclose(shown[1], shown[0], atol=1e-4 * np.abs(shown[0]).max())


# ---- coming and going while others are answered ----------------------------------------------------


def lent(engine: Engine, name: str, path: Path) -> Callable[[], None]:
    done, give_back = lend_adapter(engine, name, path)
    done.result(60)
    return give_back


@pytest.mark.skipif(not this_device().native, reason="bits are a row's own where the native kernels compute")
def test_adapters_come_and_go_under_sixteen_streams(folder: Folder, tmp_path: Path) -> None:
    """Each stream says what it says alone, whatever is loaded, unloaded or put in another's place meanwhile."""
    paths = dict(folder.options.adapters)
    paths |= {name: write_peft(tmp_path / name, drawn_pairs(stored(folder.base), ord(name))) for name in "cd"}
    prompts = {
        (place, name): tuple(i * (place + 3) % 91 for i in range(60)) for place in range(4) for name in (*NAMES, "c")
    }
    with running(folder.base, replace(folder.options, adapters=(), more_adapters=True)) as engine:
        gives = [lent(engine, name, paths[name]) for name in "abc"]
        alone = {key: answered(engine, [ask(key[1], prompt, 48)])[0][0] for key, prompt in prompts.items()}
    with running(folder.base, replace(folder.options, adapters=(), more_adapters=True)) as engine:
        gives = [lent(engine, name, paths[name]) for name in "abc"]
        handles = {key: engine.submit(ask(key[1], prompt, 48)) for key, prompt in prompts.items()}
        told = {key: [next(iter(handle))] for key, handle in handles.items()}  # all of them speak
        adapters = engine.model.holdings.adapters
        for give_back, name in zip(gives, "abc", strict=True):
            give_back()
            adapters.forget(name)
        assert set(adapters) == set()
        other = lent(engine, "a", paths["d"])  # under the same name
        swapped = answered(engine, [ask("a", prompts[0, "a"], 48)])[0][0]
        for key, handle in handles.items():
            told[key] += list(handle)
        other()
    said = {key: tuple(token for event in events for token in event.tokens) for key, events in told.items()}
    assert said == alone
    assert swapped != alone[0, "a"]


def test_the_longest_unused_goes_for_the_next(folder: Folder, tmp_path: Path) -> None:
    paths = {name: write_peft(tmp_path / name, drawn_pairs(stored(folder.base), ord(name))) for name in "abcd"}
    with running(folder.base, LoadOptions(more_adapters=True, most_adapters=2)) as engine:
        adapters, gives = engine.model.holdings.adapters, {}
        for name in "ab":
            gives[name] = lent(engine, name, paths[name])
        with pytest.raises(AdaptersInUse, match="2 may be loaded at once"):
            lent(engine, "c", paths["c"])
        gives["a"]()
        again = lent(engine, "a", paths["a"])
        gives["b"]()
        again()
        gives["c"] = lent(engine, "c", paths["c"])
        assert set(adapters) == {"a", "c"}  # b was used before
        held = adapters.nbytes
        lent(engine, "d", paths["d"])
        assert set(adapters) == {"c", "d"}
        assert adapters.nbytes == held


def test_what_has_no_room_is_refused_with_its_bytes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (name, path), _ = folder.options.adapters
    with running(folder.base, LoadOptions(more_adapters=True)) as engine:
        adapters = engine.model.holdings.adapters
        give_back = lent(engine, name, path)
        size = adapters.nbytes
        give_back()
        monkeypatch.setattr(adapters, "_room", lambda: size - 1)
        adapters.forget(name)
        with pytest.raises(AdaptersInUse, match=rf"'a' takes {size / 2**20:.1f} MiB"):
            lent(engine, name, path)
        assert set(adapters) == set()
        assert answered(engine, [ask(None)])[0][0]


def test_the_plan_has_the_adapters_bytes(folder: Folder) -> None:
    budgets, own = [], []
    for options in (LoadOptions(), folder.options):
        with running(folder.base, options) as engine:
            holdings = engine.model.holdings
            assert holdings.budget is not None
            budgets.append(holdings.budget.weights)
            own.append((engine.claim.own, holdings.adapters.nbytes))
    assert budgets[1] - budgets[0] == own[1][1] > 0
    assert own[1][0] - own[0][0] >= own[1][1]


def test_what_was_read_holds_no_adapter(folder: Folder) -> None:
    """Kept prefixes know whose they are by a digest, so that what is unloaded is gone."""
    (name, path), _ = folder.options.adapters
    with running(folder.base, LoadOptions(more_adapters=True)) as engine:
        give_back = lent(engine, name, path)
        first = answered(engine, [ask(name)])[0]
        gone = weakref.ref(engine.model.holdings.adapters[name])
        give_back()
        engine.model.holdings.adapters.forget(name)
        answered(engine, [ask(None)])
        gc.collect()
        assert gone() is None
        give_back = lent(engine, name, path)
        again = answered(engine, [ask(name)])[0]
    assert again[0] == first[0]
    assert again[1] > 100  # of the same content, whatever its name


def test_of_more_than_may_be_loaded_the_first_are(folder: Folder) -> None:
    with running(folder.base, replace(folder.options, most_adapters=1)) as engine:
        assert set(engine.model.holdings.adapters) == {"a"}
        give_back = lent(engine, "b", dict(folder.options.adapters)["b"])
        assert set(engine.model.holdings.adapters) == {"b"}
        give_back()


def test_who_gives_up_waiting_holds_nothing(folder: Folder) -> None:
    (name, path), _ = folder.options.adapters
    with running(folder.base, LoadOptions(more_adapters=True, most_adapters=1)) as engine:
        done, _ = lend_adapter(engine, name, path)
        done.cancel()
        other = lent(engine, "b", dict(folder.options.adapters)["b"])
        assert set(engine.model.holdings.adapters) == {"b"}
        other()


def test_who_asked_before_it_was_forgotten_has_it_to_the_end(folder: Folder) -> None:
    (name, path), _ = folder.options.adapters
    with running(folder.base, LoadOptions(more_adapters=True)) as engine:
        adapters = engine.model.holdings.adapters
        first = lent(engine, name, path)
        adapters.forget(name)
        second = lent(engine, name, path)
        own = adapters[name]
        first()
        assert adapters[name] is own
        second()
        assert set(adapters) == set()
