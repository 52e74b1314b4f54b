"""An engine that is idle measures a model's kernels, and the next answer uses those that were quicker.

The kernels run in the simulator; the clock is scripted, because how long a simulator takes says nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch

from mlxrun.core import Request, Sampling
from mlxrun.engine import idle_work
from mlxrun.engine.engine import Engine
from mlxrun.loading.model import Model, Runnable
from mlxrun.ops.choose import MLX, Chooser
from mlxrun.ops.device import this_device
from mlxrun.tune import picks
from mlxrun.tune.idle_tuner import Table, slices, steps_of
from mlxrun.tune.measure import Bench, Order

from ..mslsim import Mode, metal_kernel, settings
from .test_launches import models

QUICKER = ("best", "heads")  # the operations whose kernels this machine likes
M4 = picks.TunedMachine("Apple M4", "macOS 26.1", "0.32.4")


class Scripted:
    """A step takes a second; every kernel makes it a tenth shorter or longer."""

    def __init__(self, step: Callable[[int], None], chooser: Chooser) -> None:
        self.now, self._step, self._chooser = 0.0, step, chooser

    def step(self, rows: int) -> None:
        self._step(rows)
        liked = [key.split()[0] in QUICKER for key, form in self._chooser.picks.items() if form != MLX]
        self.now += 1.0 + sum(-0.1 if good else 0.1 for good in liked)

    def clock(self) -> float:
        return self.now


def test_an_idle_engine_measures_and_the_next_answer_is_made_by_what_was_quicker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = this_device(chooser=Chooser())
    monkeypatch.setattr(idle_work, "QUIET", 0.0)
    table, launches, tuned = Table(tmp_path / "kernels.json", M4), list[str](), threading.Event()

    def make(**definition: Any) -> Callable[..., Any]:
        kernel = metal_kernel(**definition)

        def run(**call: Any) -> Any:
            launches.append(definition["name"].removeprefix("mlxrun_"))
            with settings(Mode.PLAIN):
                return kernel(**call)

        return run

    def idle(model: Runnable) -> Iterator[object]:
        scripted = Scripted(steps_of(model), device.chooser)
        yield from slices(Bench(scripted.step, device.chooser, scripted.clock, 1e9), table, Order(rows=(1,)))
        tuned.set()

    with launch.made_by(make):
        engine = Engine.start(lambda: Model(models("qwen3", 1, mx.float32, device)[1]), 64, idle=idle)
        try:
            first = answer(engine)
            assert tuned.wait(60)
            found = picks.forms(table.known())
            assert {key.split()[0] for key, form in found.items() if form != MLX} == set(QUICKER)
            assert {"matmul", "add", "feed", "best", "heads"} <= {key.split()[0] for key in found}
            assert device.chooser.picks == found
            launches.clear()
            assert answer(engine) == first
            assert launches.count("greedy") == 5
            assert set(launches) == {"project", "heads", "greedy", "best"}
        finally:
            engine.close()


def answer(engine: Engine) -> list[int]:
    return [token for event in engine.submit(Request((7, 8, 9), 5, Sampling(0.0))) for token in event.tokens]
