"""The launcher by itself: what makes another pipeline, what is computed by itself once, what was refused stays so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch

BODY = launch.Body("join_blocks", ("parts",), ("y",))


def asked(size: int) -> mx.array:
    (found,) = launch.launch(BODY, [mx.ones(size)], [((1,), mx.float32)], {}, groups=(1, 1, 1), threads=32)
    return found


def answering(run: Callable[[], list[mx.array]]) -> Callable[..., Any]:
    return lambda **definition: lambda **how: run()


def test_small_inputs_are_another_text_and_so_another_pipeline() -> None:
    """Metal keeps inputs of fewer than eight values in the constant address space."""
    with launch.made_by(answering(lambda: [mx.zeros(1)])):
        launch.on_this_thread.take()
        for size in (7, 8, 9):
            asked(size)
        assert len(launch.on_this_thread.take()) == 2


def test_only_a_pipelines_first_answer_is_computed_at_once() -> None:
    computed: list[tuple[Any, ...]] = []
    with launch.made_by(answering(lambda: [mx.zeros(1)]), compute=lambda *arrays: computed.append(arrays)):
        asked(20)
        assert len(computed) == 2  # its inputs, then its answer
        asked(20)
        assert len(computed) == 2
        launch.library.doubt()
        asked(20)
        assert len(computed) == 4


def test_what_the_device_refused_is_not_launched_again_and_says_why() -> None:
    tries: list[int] = []

    def refuse() -> list[mx.array]:
        tries.append(1)
        raise RuntimeError("no room\nerror: too many registers")

    with launch.made_by(answering(refuse)):
        for _ in range(2):
            with pytest.raises(launch.KernelRefused, match="join_blocks: no room error: too many registers"):
                asked(20)
        assert tries == [1]
        assert list(launch.library.refused) == [*launch.on_this_thread.take()]


def test_another_maker_is_there_for_a_while_only() -> None:
    before = dict(vars(launch.library))
    with launch.made_by(answering(lambda: [mx.zeros(1)])):
        assert launch.library.simulated
        asked(20)
    assert vars(launch.library) == before
