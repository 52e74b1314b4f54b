"""A real model through the simulated kernels: SmolLM2's decode step gives the reference's token."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.cache.sequence import SequenceCache
from mlxrun.engine.load import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops import choose, metal
from mlxrun.ops.native import exactly
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.weights import open_checkpoint, read_weights

from ..mslsim import Mode, settings

PROMPT = (1, 504, 3575, 282, 4649)  # what they say does not matter; five rows take the kernel for a few


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

    def step() -> list[mx.array]:
        model = DecoderModel(recipe.decoder, dict(weights), fold_offsets=not recipe.folded)
        memory, found = SequenceCache(recipe.decoder, 64), []
        for ids in (PROMPT, (28,)):
            hidden = model(mx.array(ids), [(memory, len(ids))])[-1:]
            found.append(model.logits(hidden))
            mx.eval(found)
        best = metal.best_token(hidden, None, model.head.weight)
        return [*found, mx.argmax(found[-1], axis=-1) if best is None else best]

    with exactly():  # keys are kept as they come
        *expected, token = step()
        monkeypatch.setattr(choose.chooser, "policy", "ours")
        with settings(Mode.PLAIN) as launches:
            *got, ours_token = step()
    layers = len(recipe.decoder.layers)
    names = Counter(one.name.removeprefix("mlxrun_") for one in launches)
    decode = {"project": 1, "heads": 1, "paged_attention": 1, "experts_in": 1}
    assert {name: names[name] for name in decode} == {name: n * layers for name, n in decode.items()}
    assert names["qmv"] == 2 * layers + 2  # out and down of the step; the head, which the prompt has too
    assert names["greedy"] == names["best"] == 1
    assert ours_token.tolist() == token.tolist()
    for ours, theirs in zip(got, expected, strict=True):
        assert np.argmax(np.array(ours)) == np.argmax(np.array(theirs))
        assert np.abs(np.array(ours - theirs)).max() < 1e-3 * np.abs(np.array(theirs)).max()
