"""mlx-lm's own adapters, made and answered by its tuner: beside the model where that is done, and fused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.compat import quiet_import
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.fuse import fused_with
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write

from .plain import plain_outputs
from .test_files import outputs

BOUND = 1e-4  # of the largest output
LAYERS = 3  # the last ones, as mlx-lm counts


def trained(base: Path, place: Path, prompt: tuple[int, ...], kind: str, keys: list[str] | None) -> np.ndarray:
    """Writes the adapter; what mlx-lm says with it."""
    with quiet_import():
        from mlx.utils import tree_flatten
        from mlx_lm.tuner.utils import linear_to_lora_layers
        from mlx_lm.utils import load_model
    model, _ = load_model(base)
    how: dict[str, Any] = {"rank": 3, "scale": 1.5, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(model, 0 if keys else LAYERS, how, use_dora=kind == "dora")
    found = dict(tree_flatten(model.parameters()))
    mx.random.seed(1)
    tensors = {}
    for name, value in found.items():
        part = name.rpartition(".")[2]
        if part in ("lora_a", "lora_b"):
            tensors[name] = mx.random.normal(value.shape) * (0.1 if part == "lora_b" else 0.3)
        elif part == "m":
            tensors[name] = value * mx.random.uniform(0.5, 2.0, value.shape)
    model.load_weights(list(tensors.items()), strict=False)
    model.eval()
    place.mkdir()
    mx.save_safetensors(str(place / "adapters.safetensors"), tensors, {"format": "mlx"})
    told = {"fine_tune_type": kind, "num_layers": LAYERS, "lora_parameters": how, "model": "base"}
    (place / "adapter_config.json").write_text(json.dumps(told))
    return np.array(model(mx.array([prompt]))[0].astype(mx.float32))


CASES: dict[str, tuple[str, str, list[str] | None, bool]] = {  # golden case, kind, keys, whether it can be served
    "llama": ("llama_bias", "lora", None, True),
    "llama, lengths": ("llama_bias", "dora", None, True),
    "words": ("llama", "lora", ["model.embed_tokens", "lm_head"], False),
    "words and head in one": ("llama_tied", "lora", ["model.embed_tokens"], False),
    "experts": ("qwen3_moe", "lora", None, False),
    "latents": ("deepseek_v3", "lora", None, False),
}


@pytest.mark.parametrize("name", CASES)
def test_as_mlx_lm(name: str, tmp_path: Path) -> None:
    golden, kind, keys, served = CASES[name]
    known = reference(golden)
    convert_folder(open_checkpoint(write(known.checkpoint(), tmp_path / "hf")), tmp_path / "base")
    base, one = tmp_path / "base", tmp_path / "adapter"
    wanted = trained(base, one, known.prompt, kind, keys)
    bound = BOUND * float(np.abs(wanted).max())
    assert np.abs(plain_outputs(base, known.prompt) - wanted).max() > 0.1
    checkpoint = open_checkpoint(base)
    convert_folder(checkpoint, tmp_path / "fused", fused=fused_with(checkpoint, one))
    assert np.abs(plain_outputs(tmp_path / "fused", known.prompt) - wanted).max() <= bound
    if served:
        assert np.abs(outputs(base, one, known) - wanted).max() <= bound
        return
    if name == "experts":  # and routers: by MLX's own forms, as on a GPU
        assert np.abs(outputs(base, one, known, this_device("exact", native=False)) - wanted).max() <= bound
    if not this_device().native:
        return
    with pytest.raises(ModelError, match="cannot change while this model runs: fuse it"):
        outputs(base, one, known)
