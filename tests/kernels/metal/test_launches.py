"""How many kernels a decode step launches: ours against mlx-lm's graph for the same model, counted from graphs.

A node of the graph counts as a launch unless it only looks at memory in another way. What is one kernel on a GPU
but many nodes on a CPU (MLX's norm, rotation and attention) is counted as the one that it is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.utils
import pytest
from mlx_lm.models import cache, gemma2, gemma3_text, gpt_oss, granite, qwen3, qwen3_moe
from mlxrun.metal_kernels import launch

from mlxrun.cache.sequence import SequenceCache
from mlxrun.families import resolve
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.weights.apply import apply_rules

VIEWS = {
    *("Reshape", "Transpose", "Slice", "ExpandDims", "Squeeze", "Flatten", "Unflatten", "Broadcast", "BroadcastAxes"),
    *("AsStrided", "Split", "Depends", "NumberOfElements", "StopGradient"),
}
COMMON = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "vocab_size": 128,
    "max_position_embeddings": 4096,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
}
MOE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
GPT_OSS = {
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
}
GEMMA = {"query_pre_attn_scalar": 64, "sliding_window": 64, "tie_word_embeddings": True}
GEMMA2 = {**GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
GEMMA3 = {**GEMMA, "sliding_window_pattern": 2, "rope_local_base_freq": 1e4}
GRANITE = {
    "head_dim": 32,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "attention_bias": False,
    "mlp_bias": False,
}
CASES = {
    "gemma2": (gemma2, {"model_type": "gemma2", **COMMON, **GEMMA2}),
    "gemma3": (gemma3_text, {"model_type": "gemma3_text", **COMMON, **GEMMA3}),
    "granite": (granite, {"model_type": "granite", **COMMON, **GRANITE}),
    "qwen3": (qwen3, {"model_type": "qwen3", **COMMON}),
    "qwen3_moe": (qwen3_moe, {"model_type": "qwen3_moe", **COMMON, **MOE}),
    "gpt_oss": (gpt_oss, {"model_type": "gpt_oss", **COMMON, **GPT_OSS}),
}


def ours_alone() -> Device:
    """Nothing by native kernels, all that can be by ours."""
    return this_device(native=False, chooser=Chooser("ours"))


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """MLX's fast operations as one node each; the values do not matter here."""
    patch = pytest.MonkeyPatch()
    patch.setattr(mx.fast, "rms_norm", lambda x, weight, eps: mx.abs(x))
    patch.setattr(mx.fast, "rope", lambda x, *_, **__: mx.negative(x))
    patch.setattr(mx.fast, "scaled_dot_product_attention", lambda q, k, v, **_: mx.sign(mx.depends(q, [k, v])))
    with patch.context():
        yield
    patch.undo()


def launches(arrays: list[mx.array], path: Path) -> Counter[str]:
    mx.export_to_dot(str(path), *arrays)
    kinds = Counter(re.findall(r'label ="([^"]+)", shape=rectangle', path.read_text()))
    return Counter({kind: n for kind, n in kinds.items() if kind not in VIEWS})


def models(
    name: str, layers: int, dtype: mx.Dtype = mx.bfloat16, device: Device | None = None
) -> tuple[Any, DecoderModel, Any]:
    """mlx-lm's, and ours of the same weights: by our Metal kernels, where no device is said."""
    device = device or ours_alone()
    module, config = CASES[name]
    config = {**config, "num_hidden_layers": layers}
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:layers]
    mx.random.seed(0)
    theirs = module.Model(module.ModelArgs.from_dict(config))
    theirs.set_dtype(dtype)
    nn.quantize(theirs, group_size=64, bits=4)
    mx.eval(theirs.parameters())
    recipe = resolve({**config, "quantization": {"group_size": 64, "bits": 4}}, "mlx")
    weights = dict(mlx.utils.tree_flatten(theirs.parameters()))
    found = apply_rules(recipe.rules, joined(weights))
    made = DecoderModel(recipe.decoder, found, device, fold_offsets=not recipe.folded)
    return theirs, made, recipe.decoder


def joined(arrays: dict[str, mx.array]) -> dict[str, Weight]:
    """Codes, scales and biases of a weight as one."""
    found: dict[str, Weight] = {}
    for name, a in arrays.items():
        stem, _, part = name.rpartition(".")
        if f"{stem}.scales" not in arrays or part == "bias":
            found[name] = a
        elif part == "weight":
            found[name] = QuantizedWeight(a, arrays[f"{stem}.scales"], arrays[f"{stem}.biases"], "affine", 4, 64)
    return found


def theirs_of_a_step(name: str, layers: int, path: Path) -> Counter[str]:
    model, _, _ = models(name, layers)
    memory = cache.make_prompt_cache(model)
    with as_on_a_gpu():
        mx.eval(model(mx.zeros((1, 3), mx.int32), cache=memory), [(c.keys, c.values) for c in memory])
        logits = model(mx.array([[3]]), cache=memory)
        return launches([logits, *(a for c in memory for a in (c.keys, c.values))], path)


def ours_of_a_step(name: str, layers: int, path: Path) -> Counter[str]:
    """Traced, because without a GPU MLX makes its kernels' nodes only then."""
    found: list[Counter[str]] = []
    with as_on_a_gpu(), forced():
        _, model, spec = models(name, layers)
        mx.eval(list(arrays_in(model)))  # what is made of weights once, as a load does
        memory = SequenceCache(spec, 64)
        _, plain, _ = models(name, layers, device=this_device(native=False, chooser=Chooser("mlx")))
        mx.eval(plain(mx.zeros((3,), mx.int32), [(memory, 3)]), memory.arrays())  # theirs has a prompt too

        def step(ids: mx.array) -> mx.array:
            logits = model.logits(model(ids, [(memory, 1)]))
            found.append(launches([logits, *memory.arrays()], path))
            return logits

        mx.export_function(str(path.with_suffix(".mlxfn")), step, mx.array([3]))
    return found[0]


def arrays_in(part: Any, seen: set[int] | None = None) -> Iterator[mx.array]:
    """Of a model's blocks, whatever holds them."""
    seen = set() if seen is None else seen
    if isinstance(part, mx.array):
        yield part
    elif id(part) not in seen and (isinstance(part, list | tuple) or type(part).__module__.startswith("mlxrun.nn")):
        seen.add(id(part))
        slots = [getattr(part, name, None) for name in getattr(part, "__slots__", ())]
        inside = part if isinstance(part, list | tuple) else [*getattr(part, "__dict__", {}).values(), *slots]
        for one in inside:
            yield from arrays_in(one, seen)


@contextmanager
def forced() -> Iterator[None]:
    real: Callable[..., Any] = mx.fast.metal_kernel
    with launch.made_by(lambda **definition: real(**definition), compute=lambda *_: None):
        yield


@pytest.mark.parametrize(
    ("name", "most"),
    [("gemma2", 12), ("gemma3", 12), ("granite", 12), ("qwen3", 8), ("qwen3_moe", 10), ("gpt_oss", 12)],
)
def test_a_layer_takes_at_most_half_of_the_launches(name: str, most: int, tmp_path: Path) -> None:
    theirs, ours = (
        [sum(count(name, layers, tmp_path / f"{layers}.dot").values()) for layers in (2, 3)]
        for count in (theirs_of_a_step, ours_of_a_step)
    )
    a_layer, our_layer = theirs[1] - theirs[0], ours[1] - ours[0]
    assert our_layer <= most
    assert 2 * our_layer <= a_layer, f"{our_layer} launches a layer, mlx-lm {a_layer}"
