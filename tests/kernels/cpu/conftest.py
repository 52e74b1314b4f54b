"""Whether these tests can run here; the library's settings are put back after each.

With MLXRUN_TEST_NATIVE naming a folder, the library that was built there is tested: a sanitized one, a mutant.
MLXRUN_TEST_ISAS names the instruction sets that are tested, where it is not all that this CPU can run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .library import folder, native, status


@pytest.fixture(autouse=True)
def settings_are_put_back(request: pytest.FixtureRequest) -> Iterator[None]:
    if native is None:
        if folder:  # what was asked for does not even load: nothing may pass for tested
            pytest.fail(f"The library in {folder} is not in use: {status().reason}.")
        if getattr(request.module, "WITHOUT_LIBRARY", False):
            yield
            return
        pytest.skip(f"The native CPU kernels are not in use: {status().reason}.")
    before = native.precision(), native.threads(), native.isa()
    yield
    native.set_precision(before[0])
    native.set_threads(before[1])
    native.choose_isa(before[2])


ISAS = os.environ.get("MLXRUN_TEST_ISAS", "").split() or (native.isas() if native else ["none"])


IN_TILES = {"test_products", "test_same", "test_experts", "test_feed_forward"}  # all that "amx" does of its own


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        products = metafunc.module.__name__.rpartition(".")[2] in IN_TILES
        sets = [name for name in ISAS if products or name != "amx"]
        metafunc.parametrize("isa", sets, indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set that this CPU can run, one after the other."""
    assert native.choose_isa(request.param)
    return request.param
