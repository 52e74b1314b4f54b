"""Answers with a matrix changed: our kernels and mlx-lm's class must agree, and the model must stay what it was."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.convert.folder import source
from mlxrun.convert.names import Named, named
from mlxrun.convert.trial import Ours, Theirs, trial_of
from mlxrun.ops.device import this_device
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write
from tests.unit.convert.test_folder import FAMILIES, PROMPT

needs_kernels = pytest.mark.skipif(not this_device().native, reason="native CPU kernels are not in use here")


def names_of(name: str, folder: Path) -> Named:
    return named(*source(open_checkpoint(write(reference(name).checkpoint(), folder / name))))


@needs_kernels
@pytest.mark.parametrize("name", FAMILIES)
def test_both_agree_whatever_is_changed(name: str, tmp_path: Path) -> None:
    names = names_of(name, tmp_path)
    ours, theirs = Ours(names, this_device("exact")), Theirs(names)
    usual = np.array(ours.logp(PROMPT))
    np.testing.assert_allclose(usual, np.array(theirs.logp(PROMPT)), atol=2e-4)
    for module in (module for module, advice in names.advice.items() if advice is not False):
        changed = {module: 1.5 * names.tensors[f"{module}.weight"].astype(mx.float32)}
        found = np.array(ours.logp(PROMPT, changed))
        np.testing.assert_allclose(found, np.array(theirs.logp(PROMPT, changed)), atol=5e-4, err_msg=module)
    assert np.array_equal(np.array(ours.logp(PROMPT)), usual)


@needs_kernels
def test_several_at_once(tmp_path: Path) -> None:
    names = names_of("llama", tmp_path)
    picked = [module for module in names.advice if "mlp" in module]
    changed = {module: 0.5 * names.tensors[f"{module}.weight"].astype(mx.float32) for module in picked}
    found, wanted = Ours(names, this_device("exact")).logp(PROMPT, changed), Theirs(names).logp(PROMPT, changed)
    np.testing.assert_allclose(np.array(found), np.array(wanted), atol=2e-4)


def test_their_class_is_what_it_was_afterwards(tmp_path: Path) -> None:
    names = names_of("llama", tmp_path)
    theirs = Theirs(names)
    before = np.array(theirs.logp(PROMPT))
    module = next(iter(names.advice))
    assert not np.array_equal(np.array(theirs.logp(PROMPT, {module: 2 * names.tensors[f"{module}.weight"]})), before)
    assert np.array_equal(np.array(theirs.logp(PROMPT)), before)


def test_whichever_serves(tmp_path: Path) -> None:
    assert isinstance(trial_of(names_of("llama", tmp_path)), Ours if this_device().native else Theirs)
