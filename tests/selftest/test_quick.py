"""`mlxrun selftest --quick` on this machine, once: every part passes or says why it is not run here.

Parts get several times the time that a person's would, because tests share the machine.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxrun import gpu
from mlxrun.cli import selftest
from mlxrun.ops.device import this_device
from mlxrun.selftest import PARTS, watch

PATIENCE = 6


@pytest.fixture(scope="module")
def found(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    assert smollm2_gguf.is_file()  # fetched, if need be, by somebody who may
    file = tmp_path_factory.mktemp("selftest") / "report.json"
    parts = [replace(part, quick=PATIENCE * part.quick) for part in PARTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "WHOLE_QUICK", PATIENCE * watch.WHOLE_QUICK)
        code = selftest.examine(parts, file, quick=True)
    return {"code": code, **json.loads(file.read_text())}


def part_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in found["parts"] if part["name"] == name)


def test_all_that_ran_is_well(found: dict[str, Any]) -> None:
    wrong = {part["name"]: part["said"] for part in found["parts"] if part["state"] not in ("passed", "not run")}
    assert not wrong
    assert (found["code"], found["well"], found["quick"], found["schema"]) == (0, True, True, 1)
    assert [part["name"] for part in found["parts"]] == [part.name for part in PARTS]


def test_what_needs_no_gpu_is_run(found: dict[str, Any]) -> None:
    ran = {part["name"] for part in found["parts"] if part["state"] == "passed"} - {"terminal"}
    everywhere = {"machine", "mapping", "plan", "families", "starter", "endurance"}
    here = everywhere | ({"kernels"} if this_device().native or gpu.metal() else set())
    assert ran >= here
    if not gpu.metal():
        assert ran == here
        assert "not run" in part_of(found, "kernels")["numbers"]["metal"]


def test_numbers_are_there(found: dict[str, Any]) -> None:
    numbers = {part["name"]: part["numbers"] for part in found["parts"]}
    assert numbers["machine"]["memory"]["total"] > 0
    assert set(numbers["starter"]["tokens_a_second"]) == {"1", "4", "8", "prompt"}
    assert all(rate > 0 for rate in numbers["starter"]["tokens_a_second"].values())
    assert len(numbers["families"]["differences"]) + numbers["families"]["no_time_for"] >= 11
    assert numbers["endurance"]["requests"]["greedy"] >= 4
    assert {"weights", "keys_and_values", "peak"} <= {check["name"] for check in part_of(found, "plan")["checks"]}
    answered = part_of(found, "starter")["checks"][0]
    assert "Paris" in answered["text"]


def test_the_whole_takes_five_minutes_at_most_and_quick_one() -> None:
    assert watch.WHOLE + watch.GRACE < 300
    assert watch.WHOLE_QUICK + watch.GRACE <= 60
