"""Every layout that experts, latent attention and recurrent layers are stored in becomes the same weights.

The truth is what transformers writes (the golden manifests), rearranged by transformers' own rule for stacks
of experts and by mlx-lm's `sanitize` for the mlx dialect.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mlx.core as mx
import pytest

from mlxrun.families import Recipe, resolve
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.weights import apply_rules, gather_parts
from tests.golden.checkpoint import reference

Tensors = dict[str, mx.array]

# case: module of mlx-lm
SANITIZED = {
    "afmoe": "afmoe",
    "deepseek_v3": "deepseek_v3",
    "deepseek_v3_whole_q": "deepseek_v3",
    "deepseek_v32": "deepseek_v32",
    "falcon_mamba": "mamba",
    "glm4_moe": "glm4_moe",
    "glm_moe_dsa": "deepseek_v32",
    "granite_hybrid": "granitemoehybrid",
    "granite_hybrid_dense": "granitemoehybrid",
    "jamba": "jamba",
    "jamba_dense": "jamba",
    "laguna": "laguna",
    "llama4_scout": "llama4",
    "llama4_maverick": "llama4",
    "mamba": "mamba",
    "mamba2_groups": "mamba2",
    "mistral4": "mistral4",
    "mixtral": "mixtral",
    "nemotron_h": "nemotron_h",
    "nemotron_h_latent": "nemotron_h",
    "olmoe": "olmoe",
    "phimoe": "phimoe",
    "qwen3_5": "qwen3_5",
    "qwen3_5_moe": "qwen3_5_moe",
    "qwen3_moe": "qwen3_moe",
    "qwen3_next": "qwen3_next",
}
WRAPPED = {"llama4": "llama4", "qwen3_5": "qwen3_5", "qwen3_5_moe": "qwen3_5_moe"}  # mlx-lm keeps the text half inside


def drawn(case: str) -> tuple[dict[str, Any], Tensors]:
    checkpoint = reference(case).checkpoint()
    return checkpoint.config, {name: mx.array(value) for name, value in checkpoint.weights.items()}


def canonical(config: dict[str, Any], tensors: Tensors, dialect: Any = "hf") -> tuple[Recipe, dict[str, Weight]]:
    recipe = resolve(config, dialect)
    return recipe, apply_rules(recipe.rules, tensors)


def assert_same(got: dict[str, Weight], wanted: dict[str, Weight]) -> None:
    assert sorted(got) == sorted(wanted)
    for name, weight in wanted.items():
        assert got[name].shape == weight.shape, name
        assert mx.array_equal(got[name], weight), name


# ---- stacks of experts --------------------------------------------------------------------------

STACKED = {
    "afmoe": "mlp",
    "deepseek_v3": "mlp",
    "glm4_moe": "mlp",
    "jamba": "feed_forward",
    "laguna": "mlp",
    "mistral4": "mlp",
    "mixtral": "mlp",
    "olmoe": "mlp",
    "phimoe": "mlp",
    "qwen3_5_moe": "mlp",
    "qwen3_moe": "mlp",
    "qwen3_next": "mlp",
}


def stacked(case: str, tensors: Tensors, wanted: dict[str, Weight]) -> Tensors:
    """transformers joins experts as [gate; up] (E, 2I, dim) and down (E, dim, I)."""
    joined = {name: value for name, value in tensors.items() if not re.search(r"\.experts\.\d", name)}
    for name, value in wanted.items():
        if match := re.fullmatch(r"layers\.(\d+)\.ffn\.experts\.(gate|down)\.weight", name):
            block = f"model.layers.{match[1]}.{STACKED[case]}.experts."
            if match[2] == "down":
                joined[block + "down_proj"] = value
            else:
                joined[block + "gate_up_proj"] = mx.concatenate([value, wanted[name.replace("gate", "up")]], axis=1)
    return joined


@pytest.mark.parametrize("case", STACKED)
def test_a_stack_of_experts_is_its_experts(case: str) -> None:
    config, tensors = drawn(case)
    _, wanted = canonical(config, tensors)
    joined = stacked(case, tensors, wanted)
    assert any(name.endswith("gate_up_proj") for name in joined)
    _, got = canonical(config, joined)
    assert_same(got, wanted)


# ---- the mlx dialect ----------------------------------------------------------------------------


def mlx_lm_model(module: str) -> Any:
    """The module, imported without letting mlx-lm lower this process's limit of open files."""
    with mock.patch.object(resource, "setrlimit"):
        return import_module(f"mlx_lm.models.{module}")


def sanitizer(module: str, config: dict[str, Any]) -> Callable[[Tensors], Tensors]:
    """mlx-lm's own rearrangement, called with what it reads of its model."""
    found = mlx_lm_model(module)
    numbers = {"num_experts", "num_local_experts", "n_routed_experts"} & set(config)
    experts = next((config[key] for key in sorted(numbers)), None)
    named = dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), experts)
    layers = config.get("num_hidden_layers") or len(config["layers_block_type"])
    args = SimpleNamespace(**{**config, **named, "num_hidden_layers": layers, "use_moe": bool(experts)})
    args.text_config = args
    model = SimpleNamespace(args=args)
    if module in ("qwen3_5", "qwen3_5_moe"):
        text = mlx_lm_model("qwen3_5").TextModel
        model.language_model = SimpleNamespace(args=args, sanitize=lambda w: text.sanitize(model, w))
    return lambda tensors: found.Model.sanitize(model, dict(tensors))


@pytest.mark.parametrize("case", SANITIZED)
def test_what_mlx_lm_writes_is_the_same_model(case: str) -> None:
    config, tensors = drawn(case)
    recipe, wanted = canonical(config, tensors)
    module = SANITIZED[case]
    if module == "llama4":  # its hub files are wrapped
        tensors = {f"language_model.{name}": value for name, value in tensors.items()}
    if module == "qwen3_5_moe":  # mlx-lm reads it in stacks only
        tensors = stacked(case, tensors, wanted)
    written = sanitizer(module, config)(tensors)
    outer = {"model_type": WRAPPED[module], "text_config": config} if module in WRAPPED else config
    mlx_recipe, got = canonical(outer, written, "mlx")
    assert mlx_recipe.decoder == recipe.decoder
    for name in list(got):
        if name.endswith(".k_bt.weight"):
            got[name.replace("k_bt", "k_b")] = got.pop(name).swapaxes(-1, -2)
    if mlx_recipe.folded:
        shifted = [name for name in got if re.search(r"(^norm|_norm)\.weight$", name)]
        assert shifted
        for name in shifted:
            assert mx.allclose(got.pop(name), wanted.pop(name) + 1.0), name
    assert_same(got, wanted)


# ---- GPT-OSS ------------------------------------------------------------------------------------


def packed(wanted: dict[str, Weight], layer: int) -> tuple[QuantizedWeight, QuantizedWeight]:
    """That layer's experts in MXFP4: gate and up rows in turn (E, 2I, dim), down (E, dim, I)."""
    ours = f"layers.{layer}.ffn.experts."
    gate, up, down = (wanted[f"{ours}{part}.weight"] for part in ("gate", "up", "down"))
    both = mx.stack([gate, up], axis=2).reshape(gate.shape[0], -1, gate.shape[2])
    weights = []
    for value in (both, down):
        codes, scales = mx.quantize(value, group_size=32, bits=4, mode="mxfp4")
        weights.append(QuantizedWeight(codes, scales, None, "mxfp4", 4, 32))
    return weights[0], weights[1]


def gpt_oss_blocks() -> tuple[dict[str, Any], Tensors, Tensors]:
    """(config, the tensors of a file with MXFP4 blocks, those of one that holds the same values as floats)."""
    config, floats = drawn("gpt_oss")
    _, wanted = canonical(config, floats)
    blocks = {name: value for name, value in floats.items() if not name.endswith(("gate_up_proj", "down_proj"))}
    for layer in range(config["num_hidden_layers"]):
        theirs = f"model.layers.{layer}.mlp.experts."
        for name, weight in zip(("gate_up_proj", "down_proj"), packed(wanted, layer), strict=True):
            bytes_ = weight.packed.view(mx.uint8)
            blocks[f"{theirs}{name}_blocks"] = bytes_.reshape(*bytes_.shape[:-1], -1, 16)
            blocks[f"{theirs}{name}_scales"] = weight.scales
            floats[f"{theirs}{name}"] = weight.dequantize(mx.float32).swapaxes(-1, -2)
    return {**config, "quantization_config": {"quant_method": "mxfp4"}}, blocks, floats


def test_gpt_oss_blocks_are_its_floats() -> None:
    config, blocks, floats = gpt_oss_blocks()
    recipe, wanted = canonical(config, floats)
    got = apply_rules(recipe.rules, gather_parts(blocks, config))
    assert isinstance(got["layers.0.ffn.experts.up.weight"], QuantizedWeight)
    plain = {k: v.dequantize(mx.float32) if isinstance(v, QuantizedWeight) else v for k, v in got.items()}
    assert_same(plain, wanted)


def test_what_mlx_lm_writes_of_gpt_oss_is_the_same_model() -> None:
    config, blocks, _ = gpt_oss_blocks()
    recipe = resolve(config)
    wanted = apply_rules(recipe.rules, gather_parts(blocks, config))
    written = mlx_lm_model("gpt_oss").Model.sanitize(SimpleNamespace(), dict(blocks))
    config.pop("quantization_config")
    quantized = {**config, "quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}
    mlx_recipe = resolve(quantized, "mlx")
    got = apply_rules(mlx_recipe.rules, gather_parts(written, quantized))
    assert mlx_recipe.decoder == recipe.decoder
    assert sorted(got) == sorted(wanted)
    for name, weight in wanted.items():
        theirs = got[name]
        assert isinstance(theirs, QuantizedWeight) == isinstance(weight, QuantizedWeight)
        if isinstance(weight, QuantizedWeight) and isinstance(theirs, QuantizedWeight):
            assert mx.array_equal(theirs.packed, weight.packed), name
            assert mx.array_equal(theirs.scales, weight.scales), name
        else:
            assert mx.array_equal(theirs, weight), name
