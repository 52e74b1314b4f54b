"""A kernel that the device refuses, at its first launch or later, in an engine that serves several: every answer is
MLX's, nobody is ended, and it is said once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch

from mlxrun.core import Finish, Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle
from mlxrun.loading.model import Holdings, Model
from mlxrun.ops import metal
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import this_device
from mlxrun.ops.matmul import matmul

from ..mslsim import Mode, metal_kernel, settings
from .made import random
from .test_choosing import SIXTEENS, ones, rms, weight
from .test_launches import models

PROMPTS = ((5, 9, 2), (77,), (1, 2, 3, 4, 5, 6, 7), (8, 8))
TOKENS = 9
TRIED = 4  # launches of `project` before a model of one layer is ready: by one to four rows


@dataclass
class Refusing:
    """A maker of kernels that run in the simulator, but for those of which the device says no.

    As MLX does, it says so when an answer is computed, not when it is asked for.
    """

    refuses: Callable[[str, int], bool]  # a kernel's name, and how often it was launched
    launches: Counter[str] = field(default_factory=Counter)

    def __call__(self, **definition: Any) -> Callable[..., Any]:
        kernel, name = metal_kernel(**definition), definition["name"].removeprefix("mlxrun_")

        def run(**call: Any) -> Any:
            self.launches[name] += 1
            with settings(Mode.PLAIN):
                found = kernel(**call)
            return mx.depends(found, [never()]) if self.refuses(name, self.launches[name]) else found

        return run


def never() -> mx.array:
    """It can be asked for and not be computed: MLX's CPU has no such product in halves."""
    halves = mx.ones((2, 2), mx.float16)
    return mx.gather_mm(halves, halves[None], rhs_indices=mx.array([0]))


def model_of(name: str, policy: Any) -> Model:
    device = this_device("exact", native=False, chooser=Chooser(policy))
    return Model(models(name, 1, mx.float32, device)[1], holdings=Holdings(chooser=device.chooser))


Ready = list[dict[tuple[str, str], str]]


def answers(model: Model, ready: Ready) -> list[list[int]]:
    """Of an engine that is asked for all of them at once; what was refused when it was ready goes into `ready`."""
    engine = Engine.start(lambda: model, 64)
    ready.append(dict(chooser_of(model).refused))
    try:
        handles = [engine.submit(Request(prompt, TOKENS, Sampling(0.0))) for prompt in PROMPTS]
        found = [told(handle) for handle in handles]
        assert engine.used().refused == chooser_of(model).told()
        assert set(chooser_of(model).told()) <= set(engine.notes)
        return found
    finally:
        engine.close()


@cache
def right(name: str) -> list[list[int]]:
    """By MLX's forms."""
    return answers(model_of(name, "mlx"), [])


def told(handle: Handle) -> list[int]:
    events = list(handle)
    assert (events[-1].finish, events[-1].reason) == (Finish.LENGTH, None)
    return [token for event in events for token in event.tokens]


def chooser_of(model: Model) -> Chooser:
    assert model.holdings.chooser is not None
    return model.holdings.chooser


def operations(model: Model) -> set[str]:
    """Of which a form of ours was refused."""
    return {key.split()[0] for key, _ in chooser_of(model).refused}


@pytest.mark.parametrize(("name", "refused"), [("qwen3", "qmv"), ("qwen3", "best"), ("qwen3_moe", "router")])
def test_what_does_not_compile_is_replaced_before_the_model_is_ready(
    name: str, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, ready = model_of(name, "ours"), Ready()
    make = Refusing(lambda kernel, _: kernel == refused)
    with launch.made_by(make), caplog.at_level(logging.WARNING, "mlxrun.kernels"):
        assert answers(model, ready) == right(name)
        assert len(launch.library.refused) == make.launches[refused]  # the device was asked once for each
    assert ready == [chooser_of(model).refused]
    assert ready[0]
    assert all(why == f"{refused}: [GatherMM::eval] Currently only supports float32." for why in ready[0].values())
    assert make.launches["project"] > TRIED
    lines = [record.getMessage() for record in caplog.records]
    assert lines == list(chooser_of(model).told())
    assert len(set(lines)) == len(ready[0])
    assert all("does not run here and is not used" in line for line in lines)


@pytest.mark.parametrize("after", [0, 4, 7])
def test_what_fails_after_it_ran_is_found_when_it_is_computed_by_itself(after: int) -> None:
    """A pass breaks: all begin anew, and the kernel that fails again is not used any more."""
    model, ready = model_of("qwen3", "ours"), Ready()
    make = Refusing(lambda kernel, count: kernel == "project" and count > TRIED + after)
    with launch.made_by(make):
        assert answers(model, ready) == right("qwen3")
    assert ready == [{}]
    assert operations(model) == {"heads"}


def test_what_fails_once_is_run_again_and_kept() -> None:
    model, ready = model_of("qwen3", "ours"), Ready()
    make = Refusing(lambda kernel, count: kernel == "project" and count == TRIED + 3)
    with launch.made_by(make):
        assert answers(model, ready) == right("qwen3")
    assert operations(model) == set()
    assert make.launches["project"] > TRIED + 3


def test_what_fails_only_among_others_goes_with_them() -> None:
    """Computed by itself it runs, and every pass with it breaks: the kernels of such a pass are given up."""
    model, ready, computed = model_of("qwen3", "ours"), Ready(), []

    def compute(*arrays: Any) -> None:
        computed.append(arrays)  # of each kernel first its inputs, then its answers
        mx.eval(*arrays)

    make = Refusing(lambda kernel, count: kernel == "project" and count > TRIED and len(computed) % 2 == 0)
    with launch.made_by(make, compute):
        assert answers(model, ready) == right("qwen3")
    assert ready == [{}]
    assert "heads" in operations(model)
    assert all("a pass broke with it and not without" in why for why in chooser_of(model).refused.values())
    assert chooser_of(model).policy == "ours"


def test_a_request_that_breaks_with_any_form_ends_and_no_kernel_goes() -> None:
    model = model_of("qwen3", "ours")
    real, bad = model.decoder.embed, 50

    def embed(ids: mx.array) -> mx.array:
        if bad in ids.tolist():
            raise RuntimeError("unlucky")
        return real(ids)

    assert not any(bad in answer for answer in right("qwen3"))
    model.decoder.embed = embed  # type: ignore[assignment]  # as a bug would
    with launch.made_by(Refusing(lambda *_: False)):
        engine = Engine.start(lambda: model, 64)
        handles = [engine.submit(Request(prompt, TOKENS, Sampling(0.0))) for prompt in (*PROMPTS, (3, bad))]
        assert [told(handle) for handle in handles[:-1]] == right("qwen3")
        last = list(handles[-1])[-1]
        assert (last.finish, last.reason) == (Finish.FAILED, "RuntimeError: unlucky")
        assert told(engine.submit(Request(PROMPTS[0], TOKENS, Sampling(0.0)))) == right("qwen3")[0]
        engine.close()
    assert operations(model) == set()
    assert chooser_of(model).policy == "ours"


def test_an_operation_answers_as_if_it_were_not_served() -> None:
    chooser, w = Chooser("ours"), weight((40, 64))
    with launch.made_by(Refusing(lambda kernel, _: kernel == "qmv")):
        assert metal.matmul(ones(1, 64), w, chooser) is None
        assert metal.matmul(ones(5, 64), w, chooser) is not None
        fed = metal.MetalFeedForward(rms(64), weight((32, 64)), weight((32, 64)), weight((64, 32)), "silu", chooser)
        assert fed(ones(2, 64), ones(2, 64)) is None
        assert {key for key, _ in chooser.refused} == {
            "matmul 1 40x64 affine-4-32 float16",
            "feed 2 32x64+32x64+64x32 affine-4-32 float16",
        }
        assert set(chooser.refused.values()) == {"qmv: [GatherMM::eval] Currently only supports float32."}
        assert Chooser("ours").refused == {}


@pytest.mark.parametrize("refused", [False, True])
def test_a_layout_that_mlx_does_not_know_is_then_multiplied_in_full(refused: bool) -> None:
    w, x, device = weight((40, 64), SIXTEENS, mx.float32), random((3, 64), mx.float32, 1), this_device(native=False)
    make = Refusing(lambda *_: refused)
    with launch.made_by(make):
        found = [matmul(x, w, device) for _ in range(3)]
    assert make.launches["qmv"] == (1 if refused else 3)
    assert len(device.chooser.refused) == refused
    for y in found:
        assert mx.allclose(y, x @ w.dequantize(mx.float32).T, rtol=1e-4, atol=1e-4)


def test_what_breaks_before_a_kernel_is_not_its_fault() -> None:
    with launch.made_by(Refusing(lambda *_: False)), pytest.raises(RuntimeError, match="GatherMM"):
        metal.matmul(never().astype(mx.float16).reshape(1, 4) @ ones(4, 64), weight((40, 64)), Chooser("ours"))
    assert launch.library.refused == {}


def test_a_refusal_is_one_line_of_what_the_compiler_wrote() -> None:
    said = "[metal::Device] Unable to build metal library from source\nprogram_source:7:3: error: no\nprogram_source:8"
    assert launch.told(RuntimeError(said)) == (
        "[metal::Device] Unable to build metal library from source program_source:7:3: error: no"
    )
    assert launch.told(RuntimeError()) == "RuntimeError"
