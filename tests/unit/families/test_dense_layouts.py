"""The layouts that dense families are stored in become the same weights.

The truth is what transformers writes (the golden manifests), renamed as hub files are, or rearranged by
mlx-lm's own `sanitize`.
"""

from __future__ import annotations

import resource
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mlx.core as mx
import pytest

from mlxrun.families import resolve
from mlxrun.families.config import Dialect
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.spec import ModelError
from mlxrun.weights import apply_rules
from tests.golden.checkpoint import reference

Tensors = dict[str, Any]


def drawn(case: str) -> tuple[dict[str, Any], Tensors]:
    checkpoint = reference(case).checkpoint()
    return checkpoint.config, {name: mx.array(value) for name, value in checkpoint.weights.items()}


def canonical(config: dict[str, Any], tensors: Tensors, dialect: Dialect = "hf") -> dict[str, Weight]:
    return apply_rules(resolve(config, dialect).rules, tensors)


def assert_same(got: dict[str, Weight], wanted: dict[str, Weight]) -> None:
    assert sorted(got) == sorted(wanted)
    for name, weight in wanted.items():
        assert mx.array_equal(got[name], weight), name


# mlx-lm rearranges these; files of the others have transformers' names
@pytest.mark.parametrize("case", ["gemma4_dense", "gemma4_moe", "gemma4_small", "gpt2", "gptj", "gpt_neox"])
def test_what_mlx_lm_writes_is_the_same_model(case: str) -> None:
    config, tensors = drawn(case)
    wanted = canonical(config, tensors)
    with mock.patch.object(resource, "setrlimit"):  # mlx-lm lowers this process's limit of open files
        module = import_module(f"mlx_lm.models.{config['model_type']}")
    if case == "gpt2":  # it knows the hub's names only
        tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    model = SimpleNamespace(args=SimpleNamespace(**config))
    assert_same(canonical(config, module.Model.sanitize(model, dict(tensors)), "mlx"), wanted)


PREFIXES = {  # as on the hub: of the base model alone, of a wrapper of transformers 5, of 4 and of mlx-lm
    "bare": ("model.", ""),
    "within the model": ("model.", "model.language_model."),
    "around the model": ("model.", "language_model.model."),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("case", ["llama", "qwen3", "gemma3", "phi", "gemma4_small"])
def test_prefixes_change_nothing(case: str, prefix: str) -> None:
    config, tensors = drawn(case)
    wanted = canonical(config, tensors)
    old, new = PREFIXES[prefix]
    named = {name.replace(old, new, 1) if name.startswith(old) else name: value for name, value in tensors.items()}
    if prefix != "bare":
        named |= {"vision_tower.patch.weight": mx.zeros(1), "multi_modal_projector.linear_1.weight": mx.zeros(1)}
        config = {"model_type": "wrapper", "text_config": config, "vision_config": {"depth": 1}}
    if prefix == "around the model" and "lm_head.weight" in named:
        named["language_model.lm_head.weight"] = named.pop("lm_head.weight")
    assert_same(canonical(config, named), wanted)


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        ("gpt2", "transformer.", ""),
        ("bloom", "transformer.", ""),
        ("opt", "model.decoder.", "decoder."),
        ("bert", "", "bert."),
        ("modernbert", "", "model."),
    ],
)
def test_hub_names_of_older_families(case: str, old: str, new: str) -> None:
    config, tensors = drawn(case)
    named = {name.replace(old, new, 1) if name.startswith(old) else name: value for name, value in tensors.items()}
    assert_same(canonical(config, named), canonical(config, tensors))


def test_what_hub_files_hold_besides_is_left_out() -> None:
    config, tensors = drawn("gpt2")
    extra = {"h.0.attn.bias": mx.zeros((1, 1, 4, 4)), "h.0.attn.masked_bias": mx.zeros(1)}
    assert_same(canonical(config, {**tensors, **extra}), canonical(config, tensors))
    config, tensors = drawn("llama_tied")
    extra = {"lm_head.weight": tensors["model.embed_tokens.weight"], "model.layers.0.self_attn.rotary_emb.inv_freq": 0}
    assert_same(canonical(config, {**tensors, **extra}), canonical(config, tensors))


def test_bert_norms_of_tensorflow_days() -> None:
    config, tensors = drawn("bert")
    old = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for n, v in tensors.items()}
    assert any(name.endswith("gamma") for name in old)
    assert_same(canonical(config, old), canonical(config, tensors))


@pytest.mark.parametrize("case", ["phi3", "glm4", "gpt_neox", "modernbert"])
def test_fused_projections_are_cut_without_loss_when_quantized(case: str) -> None:
    config, tensors = drawn(case)
    plain = canonical(config, tensors)

    def quantize(name: str, value: mx.array) -> Weight:
        if value.ndim != 2 or value.shape[-1] % 32 or "embed" in name:
            return value
        codes, scales, biases = mx.quantize(value, group_size=32, bits=8)
        return QuantizedWeight(codes, scales, biases, "affine", 8, 32)

    got = canonical(config, {name: quantize(name, value) for name, value in tensors.items()})
    assert sorted(got) == sorted(plain)
    cut = [name for name, weight in got.items() if isinstance(weight, QuantizedWeight)]
    assert any(name.endswith(("mixer.k.weight", "ffn.up.weight")) for name in cut)
    for name in cut:
        rows = mx.quantize(plain[name], group_size=32, bits=8)
        assert all(mx.array_equal(part, row) for part, row in zip(got[name].parts, rows, strict=True)), name


def test_a_tensor_that_the_family_does_not_have_is_an_error() -> None:
    config, tensors = drawn("llama")
    with pytest.raises(ModelError, match=r"model\.layers\.0\.self_attn\.twist"):
        canonical(config, {**tensors, "model.layers.0.self_attn.twist.weight": mx.zeros(1)})
