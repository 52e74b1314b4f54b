"""A checkpoint of 16 bits is computed in 16 bits, as a GPU would: nothing on the way makes float32 of a family's
activations or keys. The native CPU kernels, which compute in float32, are out of the way here."""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.loading.forms import WIDE, cast
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.nn import attention
from mlxrun.nn.decoder import DecoderModel
from mlxrun.nn.layer import LayerBlock
from mlxrun.weights import open_checkpoint, read_weights

from .cases import CASES
from .checkpoint import reference, write


@pytest.fixture(autouse=True)
def _without_native_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("mlxrun.") and hasattr(module, "NATIVE"):
            monkeypatch.setattr(module, "NATIVE", False)
    monkeypatch.setattr(attention, "kept", lambda dtype: dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_becomes_float32(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = reference(name)
    checkpoint = open_checkpoint(write(known.checkpoint(), tmp_path))
    recipe, types = recipe_of(checkpoint), set()
    weights = {
        name: weight if WIDE.search(name) else cast(weight, mx.bfloat16)
        for name, weight in read_weights(checkpoint, recipe).items()
    }
    decoder, call = DecoderModel(recipe.decoder, weights, fold_offsets=not recipe.folded), LayerBlock.__call__

    def told(self: LayerBlock, x: mx.array, *rest: object) -> mx.array:
        y = call(self, x, *rest)  # type: ignore[arg-type]  # as it was called
        types.add(y.dtype)
        return y

    monkeypatch.setattr(LayerBlock, "__call__", told)
    sequence = Model(decoder).new_sequence(len(known.prompt))
    for ids in (known.prompt[:7], known.prompt[7:8]):
        hidden = decoder(mx.array(ids, mx.int32), [(sequence, len(ids))])
    types.add((hidden if known.encoder else decoder.logits(hidden)).dtype)
    types.update(memory.arrays()[0].dtype for memory in sequence.layers if memory is not None)
    assert types == {mx.bfloat16}
