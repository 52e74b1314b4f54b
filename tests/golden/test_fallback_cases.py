"""Every class of mlx-lm that people are handed, against transformers: the same weights, the same float32 outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.families import FAMILIES
from mlxrun.families.wrappers import HALVES
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.fallback import CHECKED, KNOWN_WRONG, FallbackModel
from mlxrun.spec import ModelError

from . import measure
from .checkpoint import FALLBACK_FOLDER, Checkpoint, Reference, reference, write
from .fallback_cases import FALLBACK, OLDER_ONLY, UNCHECKED
from .layouts import spelled
from .mlx_dialect import in_mlx
from .test_golden import TOLERANCE

KEPT = sorted(path.stem for path in FALLBACK_FOLDER.glob("*.json"))


def checkpoints(known: Reference) -> Iterator[tuple[str, Checkpoint]]:
    """As transformers 5 writes it, as older files are spelled, and as mlx-lm writes it."""
    base = known.checkpoint()
    if known.name not in OLDER_ONLY:
        yield "newer", base
    yield "older", replace(base, config=spelled(base.config))
    yield "mlx", in_mlx(known.name, base)


def differences(known: Reference, folder: Path, *, unchecked: bool = False) -> dict[str, float]:
    found = {}
    for what, checkpoint in checkpoints(known):
        model = load_model(write(checkpoint, folder / what), dtype=mx.float32, options=LoadOptions(unchecked=unchecked))
        assert isinstance(model, FallbackModel)
        driver = measure.Driver(model, known)
        for way in (measure.whole, measure.chunked, measure.ragged):
            found[f"{what}, {way.__name__}"] = way(driver, known)
    return found


@pytest.mark.parametrize("name", KEPT)
def test_it_computes_what_transformers_does(name: str, tmp_path: Path) -> None:
    found = differences(reference(name), tmp_path)
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize("name", KEPT)
def test_a_key_that_the_class_does_not_read_is_refused_until_it_is_waived(name: str, tmp_path: Path) -> None:
    base = reference(name).checkpoint()
    folder = write(replace(base, config={**spelled(base.config), "swirl_factor": 3}), tmp_path)
    with pytest.raises(ModelError, match=r"does not read swirl_factor.*--waive") as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    assert isinstance(load_model(folder, waive=frozenset({"swirl_factor"})), FallbackModel)


def test_what_is_called_checked_is_and_nothing_else() -> None:
    assert set(CHECKED) == {FALLBACK[name].model_type for name in KEPT}
    assert not set(CHECKED) & (set(KNOWN_WRONG) | set(FAMILIES))


def test_references_are_small_and_each_has_a_case() -> None:
    assert {path.name for path in FALLBACK_FOLDER.iterdir()} == {f"{n}.{e}" for n in KEPT for e in ("json", "npy")}
    assert set(KEPT) <= set(FALLBACK)
    assert max(path.stat().st_size for path in FALLBACK_FOLDER.iterdir()) < 32_000
    assert all(json.loads((FALLBACK_FOLDER / f"{name}.json").read_text())["made_with"]["transformers"] for name in KEPT)


def test_every_class_of_mlx_lm_is_spoken_for() -> None:
    """Checked, or refused with a reason in docs/models.md; those of types that have a recipe are not asked."""
    folder = find_spec("mlx_lm.models").submodule_search_locations[0]  # type: ignore[union-attr,index]  # it is installed
    classes = {path.stem for path in Path(folder).glob("*.py") if "class Model(" in path.read_text(encoding="utf-8")}
    told = {*FAMILIES, *CHECKED, *UNCHECKED, *(outer for outer, half in HALVES.items() if half in FAMILIES)}
    assert classes - told == set()
    assert not set(UNCHECKED) & {*CHECKED, *FAMILIES}
