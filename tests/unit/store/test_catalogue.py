"""Which repository a short name means: what is here, then what fits, then the least."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import catalogue, names, pull
from mlxrun.store.catalogue import CATALOGUE, repository_for
from mlxrun.store.resolve import resolve

GIB = 2**30
QWEN = "mlx-community/Qwen3-4B-Instruct-2507-{}bit"


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "whole", lambda repository: None)


@pytest.mark.parametrize(("gib", "bits"), [(64, 8), (8, 8), (7, 6), (5.5, 5), (4.5, 4), (3, 4)])
def test_the_most_bits_that_leave_half_of_the_memory(gib: float, bits: int) -> None:
    assert repository_for("qwen3:4b", lambda: int(gib * GIB)) == QWEN.format(bits)


def test_a_model_that_cannot_fit_is_refused_before_it_is_fetched() -> None:
    with pytest.raises(ModelError, match=r"qwen3:32b takes 17\.2 GiB .* 8\.0 GiB can be used here"):
        repository_for("qwen3:32b", lambda: 8 * GIB)


def test_what_is_here_is_taken_though_more_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "whole", lambda name: Path("x") if name.endswith(("-5bit", "-4bit")) else None)
    assert repository_for("qwen3:4b", lambda: 64 * GIB) == QWEN.format(5)
    assert repository_for("qwen3:4b", lambda: GIB) == QWEN.format(4)  # the plan will say that it does not fit


def test_bits_can_be_said_outright() -> None:
    assert repository_for("Qwen3:4B-6bit", lambda: 0) == QWEN.format(6)
    with pytest.raises(ModelError, match="known are 8, 6, 5, 4"):
        repository_for("qwen3:4b-3bit", lambda: 64 * GIB)


def test_other_names_are_not_of_the_catalogue() -> None:
    assert repository_for("org/name", lambda: 0) is None
    assert repository_for("qwen3:4", lambda: 0) is None


def test_every_entry_is_a_repository_and_fewest_bits_come_last() -> None:
    for listed in CATALOGUE.values():
        assert list(listed.bits) == sorted(listed.bits, reverse=True)
        assert all(names.parse(listed.of(bits)) for bits in listed.bits)


def test_resolving_goes_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "pull_model", lambda name, settings, told: tmp_path / name.repository.rpartition("/")[2])
    assert resolve("gpt-oss:20b-4bit", Settings(home=tmp_path)).name == "gpt-oss-20b-MXFP4-Q8"
