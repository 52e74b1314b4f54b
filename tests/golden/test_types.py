"""A checkpoint of 16 bits is computed in 16 bits, as a GPU would: nothing on the way makes float32 of a family's
activations or keys. The native CPU kernels, which compute in float32, are out of the way here."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.loading.forms import WIDE, cast
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.nn.layer import LayerBlock
from mlxrun.ops.device import this_device
from mlxrun.weights import open_checkpoint, read_weights

from .cases import CASES
from .checkpoint import reference, write


@pytest.mark.parametrize("name", CASES)
def test_nothing_becomes_float32(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = reference(name)
    checkpoint = open_checkpoint(write(known.checkpoint(), tmp_path))
    recipe, types = recipe_of(checkpoint), set()
    weights = {
        name: weight if WIDE.search(name) else cast(weight, mx.bfloat16)
        for name, weight in read_weights(checkpoint, recipe).items()
    }
    device, call = this_device(native=False), LayerBlock.__call__
    decoder = DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded)

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
