"""The tools that plant faults: every source is judged, every reason explains something, shares are counted right."""

from __future__ import annotations

import pytest
from mlxrun.cpu_kernels import native

from . import cpp_mutants, mutants
from .cpu.equivalent import EQUIVALENT
from .metal import mutate_calls
from .mutants import Count, Equivalent, Mutant

only_native = pytest.mark.skipif(native is None, reason="there are no native CPU kernels here")


@only_native
def test_every_source_is_judged_and_every_reason_explains_a_mutant() -> None:
    from .cpu import mutate

    every = {path.name: list(cpp_mutants.mutants_of(path.name, path)) for path in mutate.SOURCES.iterdir()}
    assert {name for name, found in every.items() if found} == {*mutate.TESTS, *mutate.NOT_JUDGED}
    assert not stale(EQUIVALENT, [mutant for found in every.values() for mutant in found])


def test_every_reason_of_the_launchers_explains_a_mutant() -> None:
    every = [mutant for file in mutate_calls.TESTS for mutant in mutate_calls.mutants_of(file)]
    assert not stale(mutate_calls.EQUIVALENT, every)


def stale(reasons: tuple[Equivalent, ...], every: list[Mutant]) -> list[Equivalent]:
    return [reason for reason in reasons if not any(reason.explains(mutant) for mutant in every)]


def test_a_sample_weighs_as_its_file_does() -> None:
    alive = [Mutant("a", 1, "x", "y")]
    small = Count(killed=9, judged=10, alive=alive)
    large = Count(killed=4, judged=10, alive=5 * alive, equivalent=1)
    assert mutants.told_of_all([(small, 10), (large, 1000), (Count(), 7)]) == (
        "20 of 1017 judged, each file by its mutants: 44.9%, 19.4% to 73.5%"
    )
    assert mutants.told_of_all([(Count(killed=20, judged=20), 50)]).endswith("100.0%, 83.9% to 100.0%")
    assert mutants.told_of_all([(Count(left=3), 3)]) == "all: none was judged"
