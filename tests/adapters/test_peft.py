"""PEFT's own answers, in float32: beside the model where that is done, and fused where it is not.

`peft/` was made by `make_peft.py`, which needs torch; here its tensors are drawn again and its answers read.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.adapters.files import AdapterFile, read_adapter_file
from mlxrun.adapters.whole import expert_changes
from mlxrun.convert.folder import source
from mlxrun.convert.fuse import fused_with
from mlxrun.ops.device import this_device
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import Checkpoint, reference, write

from .peft_cases import FOLDER, PEFT_CASES, write_adapter
from .plain import plain_outputs
from .test_files import outputs

BOUND = 1e-4  # of the largest output, or of 1


def adapter(name: str, place: Path) -> Path:
    told = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return write_adapter(name, told["config"], told["tensors"], place / "adapter")


def fused(base: Path, one: Path, place: Path) -> Path:
    """In Hugging Face's names, which mlx-lm has no part in."""
    checkpoint = open_checkpoint(base)
    found = fused_with(checkpoint, one)(source(checkpoint)[0], mx.float32, anew=False)
    weights = {name: np.array(weight) for name, weight in found.items() if not isinstance(weight, QuantizedWeight)}
    return write(Checkpoint(dict(checkpoint.config), weights), place / "fused")


def assert_as_peft(name: str, got: np.ndarray) -> None:
    wanted = np.load(FOLDER / f"{name}.npy")
    assert np.abs(got - wanted).max() <= BOUND * max(1.0, float(np.abs(wanted).max()))
    assert np.abs(wanted - reference(PEFT_CASES[name].base).expected).max() > 0.1


@pytest.mark.parametrize("name", [name for name, case in PEFT_CASES.items() if not case.fused])
def test_beside_the_model(name: str, tmp_path: Path) -> None:
    known = reference(PEFT_CASES[name].base)
    base = write(known.checkpoint(), tmp_path / "base")
    assert_as_peft(name, outputs(base, adapter(name, tmp_path), known))


@pytest.mark.parametrize("name", PEFT_CASES)
def test_fused(name: str, tmp_path: Path) -> None:
    known = reference(PEFT_CASES[name].base)
    base, one = write(known.checkpoint(), tmp_path / "base"), adapter(name, tmp_path)
    assert_as_peft(name, plain_outputs(fused(base, one, tmp_path), known.prompt))
    if name.startswith("experts"):  # by MLX's own forms, as on a GPU
        assert_as_peft(name, outputs(base, one, known, this_device("exact", native=False)))
    if PEFT_CASES[name].fused and this_device().native:
        with pytest.raises(ModelError, match=r"cannot change while this model runs: fuse it"):
            outputs(base, one, known)


def experts_adapter(place: Path, inputs: int, outputs: int) -> AdapterFile:
    """Of two experts and rank 3."""
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_parameters": ["experts.down_proj"]}
    shapes = {"m.experts.lora_A.weight": [6, inputs], "m.experts.lora_B.weight": [outputs, 6]}
    return read_adapter_file(write_adapter("shapes", config, shapes, place))


def test_shapes_tell_how_experts_lie(tmp_path: Path) -> None:
    file = experts_adapter(tmp_path, 5, 4)
    a, b = (np.array(file.tensors[f"m.experts.lora_{part}.weight"], np.float64) for part in "AB")
    wanted = 2 * np.einsum("ore,eri->eoi", b.reshape(4, 3, 2), a.reshape(2, 3, 5))
    for shape, turned in (((2, 4, 5), False), ((2, 5, 4), True)):
        (change,) = expert_changes(file, {"m.experts.down_proj": shape}).values()
        got = np.array(change.whole())
        np.testing.assert_allclose(got, wanted.swapaxes(1, 2) if turned else wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 5, 5), "can be read in 2 ways"),
        ((2, 4, 5), "fits none of down_proj"),
        ((4, 5, 5), "fits none of"),
        ((5, 5), "fits none of"),
    ],
)
def test_what_shapes_do_not_tell_is_refused(shape: tuple[int, ...], told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=told):
        expert_changes(experts_adapter(tmp_path, 5, 5), {"m.experts.down_proj": shape})


def test_one_matrix_for_words_and_head_is_not_fused(tmp_path: Path) -> None:
    """PEFT changes one of them; a file with both in one matrix cannot say that."""
    known = reference("llama_tied")
    base, one = write(known.checkpoint(), tmp_path / "base"), adapter("words", tmp_path)
    with pytest.raises(ModelError, match="are one matrix in this model"):
        fused(base, one, tmp_path)
