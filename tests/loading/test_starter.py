"""The real starter model against a float32 run of the same weights, dequantized by other people's code."""

from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import load_model
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops.device import this_device
from mlxrun.text.opening import gguf_tokenizer
from mlxrun.weights import open_checkpoint
from mlxrun.weights.apply import apply_rules

PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "Once upon a time, in a small village by the sea,")
TOKENS = 16


def plain_model(path: Path) -> Model:
    """Every tensor as the `gguf` package dequantizes it."""
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    recipe = recipe_of(open_checkpoint(path))
    plain = {name: mx.array(np.asarray(values, np.float32)) for name, values in tensors.items()}
    return Model(
        DecoderModel(recipe.decoder, apply_rules(recipe.rules, plain), this_device(), fold_offsets=not recipe.folded)
    )


def greedy(model: Model, prompt: list[int]) -> list[int]:
    memory, ids, said = model.new_sequence(256), mx.array(prompt, mx.int32), []
    for _ in range(TOKENS):
        hidden = model(ids, [(memory, ids.size)])
        ids = mx.argmax(model.logits(hidden[-1:]), axis=-1).astype(mx.int32)
        said.append(int(ids.item()))
    return said


@pytest.fixture(scope="module")
def models(smollm2_gguf):
    return load_model(smollm2_gguf), plain_model(Path(smollm2_gguf))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_continuation_is_that_of_the_dequantized_weights(models, smollm2_gguf, prompt):
    tokenizer = gguf_tokenizer(open_checkpoint(smollm2_gguf).metadata)
    ids = tokenizer.encode(prompt, special=False)
    ours, plain = (greedy(model, ids) for model in models)
    assert tokenizer.decode(ours) == tokenizer.decode(plain)
