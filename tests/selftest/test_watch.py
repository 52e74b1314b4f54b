"""Whatever happens to a part, it is named with its reason and the others go on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from mlxrun.selftest import watch
from mlxrun.selftest.results import Part, Result

from .broken import part

BAD = (
    part("fails"),
    part("hangs", 1.0),
    part("hangs_deaf", 1.0),
    part("is_killed"),
    part("raises"),
    part("leaves"),
    part("babbles"),
    part("babbles_json"),
    part("never_stops_writing"),
    Part("absent", "Absent", "tests.selftest.broken:nothing", 20, 20),
)


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    found = list(watch.run([*BAD, part("not_here"), part("fine")], whole=120.0))
    return {result.part.name: result for result in found}


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("fails", "failed", "wrong: 2 is not 3 (and 1 more)"),
        ("is_killed", "died", "Its process was ended by SIGKILL during the fatal one."),
        ("leaves", "died", "Its process ended without a result."),
        ("babbles", "died", "It wrote something that is no result: 'this is no JSON'."),
        ("babbles_json", "died", """It wrote something that is no result: '{"end": ["splendid", 3]}'."""),
        ("not_here", "not run", "There is no such thing here."),
        ("fine", "passed", "as it should be"),
    ],
)
def test_what_came_of_it_is_told(results: dict[str, Result], name: str, state: str, said: str) -> None:
    assert (results[name].state, results[name].said) == (state, said)
    assert results[name].well is (state in ("passed", "not run"))


def test_what_hangs_tells_where(results: dict[str, Result]) -> None:
    found = results["hangs"]
    assert found.state == "hung"
    assert "during a lock that nobody lets go, in hangs of tests/selftest/broken.py:" in found.said


def test_what_cannot_even_tell_is_ended_all_the_same(results: dict[str, Result]) -> None:
    assert results["hangs_deaf"].state == "hung"
    assert results["hangs_deaf"].said == "It had not ended after 1 s during sleep."


def test_an_exception_is_told_by_its_last_line(results: dict[str, Result]) -> None:
    found = results["raises"]
    assert found.state == "died"
    assert found.said.startswith("Its process ended with exit code 1 during adding: ValueError: no good in ")
    assert "AttributeError" in results["absent"].said


def test_what_writes_without_end_is_ended(results: dict[str, Result]) -> None:
    found = results["never_stops_writing"]
    assert (found.state, found.said) == ("died", "It wrote more than 4 MiB of results.")


def test_what_was_found_before_a_part_died_is_kept(results: dict[str, Result]) -> None:
    assert results["is_killed"].numbers == {"first": 1}
    assert [check["name"] for check in results["is_killed"].checks] == ["right"]


def test_what_libraries_print_is_no_result(results: dict[str, Result]) -> None:
    assert results["fine"].numbers == {"seven": 7, "endless": "inf"}
    assert results["fine"].checks == ({"name": "right", "good": True, "said": "it is"},)


def test_a_process_that_a_part_left_is_ended_and_delays_nobody() -> None:
    (found,) = watch.run([part("has_a_child")])
    assert (found.state, found.said) == ("passed", "left a child")
    wait_until_ended(found.numbers["child"])


def wait_until_ended(process: int) -> None:
    """Gone, or not yet buried by whoever has to."""
    while (state := state_of(process)) not in ("", "Z"):
        time.sleep(0.01)
        assert state in "RSDX"


def state_of(process: int) -> str:
    try:
        told = subprocess.run(["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("ps is not here")
    return told.stdout.strip()[:1]


def test_files_of_a_part_that_hung_are_gone() -> None:
    (found,) = watch.run([part("leaves_a_file", 1.0)])
    assert found.state == "hung"
    assert found.numbers["file"].rpartition("/")[2].startswith("left-")
    assert not Path(found.numbers["file"]).parent.exists()


def test_a_part_wires_no_more_than_weights_and_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXRUN_WIRE", "max")
    monkeypatch.setenv("MLXRUN_CONTEXT", "7")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (found,) = watch.run([part("tells_its_environment", environ={"MINE": "1"})])
    wanted = {"MLXRUN_WIRE": None, "MLXRUN_CONTEXT": None, "HF_HUB_OFFLINE": "1", "MINE": "1"}
    assert found.numbers["environment"] == wanted


def test_when_time_is_up_the_rest_is_not_run_and_says_so() -> None:
    begun: list[str] = []
    first, second = watch.run([part("hangs", 60.0), part("fine")], whole=1.5, begin=lambda one: begun.append(one.name))
    assert (first.state, second.state) == ("hung", "not run")
    assert second.said == "The time for all parts was used up before this one began."
    assert begun == ["hangs"]


def test_a_part_that_somebody_forbids_is_not_run() -> None:
    (found,) = watch.run([part("is_killed")], without={"is_killed": "Not today."})
    assert (found.state, found.said, found.well) == ("not run", "Not today.", True)


def test_what_lies_where_a_person_stands_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("json", "numpy", "mlxrun"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the right one')")
    monkeypatch.chdir(tmp_path)
    (found,) = watch.run([part("fine")])
    assert (found.state, found.said) == ("passed", "as it should be")
