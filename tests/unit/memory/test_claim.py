"""A model that is planned beside others: what they hold is counted once, and a context worth having comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.loading import fit, open_model
from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.fit import DoesNotFit, ModelShare, plan_load
from mlxrun.memory.claim import Claim, left_beside, together
from mlxrun.memory.machine import Machine
from tests.unit.memory.outlines import LLAMA_32_3B, write

GIB = 2**30
OTHER = Claim(own=3 * GIB, mapped=2 * GIB, activations=GIB)


def machine(usable: int, *, gpu: bool = False) -> Machine:
    return Machine("made up", total=64 * GIB, usable=usable, gpu=gpu)


def test_claims_add_up() -> None:
    assert together([OTHER, OTHER]) == Claim(6 * GIB, 4 * GIB, 2 * GIB)
    assert together([]).total == 0
    assert OTHER.total == 6 * GIB


@pytest.mark.parametrize(
    ("gpu", "granted", "left"),
    [
        (False, None, 17),  # what is free now knows of memory of our own already
        (True, None, 14),  # what a GPU recommends knows of nothing
        (False, 10 * GIB, 4),  # a grant is for all together
        (True, 40 * GIB, 14),
        (False, 5 * GIB, 0),
    ],
)
def test_what_is_left_beside_others(gpu: bool, granted: int | None, left: int) -> None:
    assert left_beside(machine(20 * GIB, gpu=gpu), OTHER, granted).usable == left * GIB


def test_a_shorter_context_than_wanted_is_refused_while_others_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_model(write(tmp_path / "model", LLAMA_32_3B, None))
    seen = dry_run(opened.checkpoint, opened.recipe, opened.device)
    weights = seen.weights.total

    def planned(room: ModelShare, context: int | None = None) -> int:
        monkeypatch.setattr(fit, "this_machine", lambda: machine(weights + 3 * GIB))
        return plan_load(opened.recipe, seen, context, room=room).context

    free = planned(ModelShare())
    assert planned(ModelShare(others=Claim(mapped=GIB))) < free
    assert planned(ModelShare(least=8192)) == free > 8192
    tight = Claim(mapped=2 * GIB)
    shorter = planned(ModelShare(others=tight))
    assert 512 <= shorter < 8192
    with pytest.raises(DoesNotFit, match=f"a context of {shorter} tokens only"):
        planned(ModelShare(others=tight, least=8192))
    assert planned(ModelShare(others=tight, least=8192), context=shorter) == shorter  # that is what was asked for
    with pytest.raises(DoesNotFit, match="does not fit"):
        planned(ModelShare(granted=weights))
