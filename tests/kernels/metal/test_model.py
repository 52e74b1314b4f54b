"""A real model through the simulated kernels: SmolLM2's decode step gives the reference's token."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.products import qmm, qmv, qmv_few

from mlxrun.cache.sequence import SequenceCache
from mlxrun.engine.load import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops import matmul
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.weights import open_checkpoint, read_weights

from ..mslsim import Mode, settings

PROMPT = (1, 504, 3575, 282, 4649)  # what they say does not matter; five rows take the kernel for a few


def through_kernels(x: mx.array, w: QuantizedWeight) -> mx.array:
    rows = x.reshape(-1, x.shape[-1])
    make = qmv if rows.shape[0] <= 4 else qmv_few if rows.shape[0] <= 16 else qmm
    return make(rows, w).reshape(*x.shape[:-1], -1)


def test_smollm2_decodes_the_same_tokens(smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(smollm2_gguf)
    recipe = recipe_of(checkpoint)
    weights = {}
    for name, weight in read_weights(checkpoint, recipe).items():
        if isinstance(weight, QuantizedWeight):
            parts = [p.astype(mx.float32) for p in weight.parts[1:]]
            weight = QuantizedWeight(weight.packed, *parts, weight.mode, weight.bits, weight.group)
        else:
            weight = weight.astype(mx.float32)
        weights[name] = weight
    model = DecoderModel(recipe.decoder, weights, fold_offsets=not recipe.folded)

    def logits() -> list[mx.array]:
        memory, found = SequenceCache(recipe.decoder, 64), []
        for ids in (PROMPT, (28,)):
            found.append(model.logits(model(mx.array(ids), [(memory, len(ids))])[-1:]))
            mx.eval(found)
        return found

    expected = logits()
    monkeypatch.setattr(matmul, "quantized_matmul", through_kernels)
    with settings(Mode.PLAIN) as launches:
        got = logits()
    linear = sum(1 for name in weights if name.startswith("layers.") and isinstance(weights[name], QuantizedWeight))
    assert len(launches) >= 2 * linear  # every one of them went through a kernel
    for ours, theirs in zip(got, expected, strict=True):
        assert np.argmax(np.array(ours)) == np.argmax(np.array(theirs))
        assert np.abs(np.array(ours - theirs)).max() < 1e-3 * np.abs(np.array(theirs)).max()
