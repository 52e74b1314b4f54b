"""Qwen3-Next and Qwen 3.5: which layers attend, what is gated, which norms are stored less one."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.config import Dialect
from mlxrun.spec import Attention, Dense, GatedDelta, ModelError, MoE, Norm, Router
from tests.unit.families.published import QWEN3_5_MOE, QWEN3_NEXT

DENSE_3_5 = {
    **QWEN3_5_MOE["text_config"],
    "model_type": "qwen3_5_text",
    "intermediate_size": 6144,
}
for key in ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "shared_expert_intermediate_size"):
    del DENSE_3_5[key]
del DENSE_3_5["mlp_only_layers"]


def test_next_as_published() -> None:
    d = resolve(QWEN3_NEXT).decoder
    kinds = [type(layer.mixer) for layer in d.layers]
    assert kinds == [GatedDelta, GatedDelta, GatedDelta, Attention] * 12
    attention, delta, experts = d.layers[3].mixer, d.layers[0].mixer, d.layers[0].ffn
    assert isinstance(attention, Attention)
    assert isinstance(delta, GatedDelta)
    assert isinstance(experts, MoE)
    assert attention.gate == "packed"
    assert attention.rope is not None
    assert (attention.head_dim, attention.rope.dims) == (256, 64)
    assert delta == GatedDelta(16, 32, 128, 128, 4, Norm(1e-6))
    assert experts.router == Router(10, renorm=True)
    assert (experts.experts, experts.shared, experts.shared_gate) == (512, Dense(512), True)


@pytest.mark.parametrize(("dialect", "folded"), [("hf", False), ("mlx", True)])
def test_norms_are_stored_less_one_but_not_inside_a_delta_layer(dialect: Dialect, folded: bool) -> None:
    recipe = resolve(QWEN3_NEXT, dialect)
    layer = recipe.decoder.layers[3]
    assert isinstance(layer.mixer, Attention)
    norms = [recipe.decoder.norm, layer.mixer_norm, layer.ffn_norm, layer.mixer.qk_norm]
    assert [norm.offset for norm in norms if norm] == [1.0] * 4
    delta = recipe.decoder.layers[0].mixer
    assert isinstance(delta, GatedDelta)
    assert delta.norm.offset == 0.0
    assert recipe.folded is folded


def test_layers_that_are_dense_by_name() -> None:
    d = resolve({**QWEN3_NEXT, "mlp_only_layers": [1]}).decoder
    assert [i for i, layer in enumerate(d.layers) if isinstance(layer.ffn, Dense)] == [1]


@pytest.mark.parametrize("types", [{"layer_types": None}, {"full_attention_interval": None}])
def test_the_pattern_is_the_same_from_a_list_and_from_an_interval(types: dict[str, Any]) -> None:
    listed = {**QWEN3_NEXT, "layer_types": [*["linear_attention"] * 3, "full_attention"] * 12}
    assert resolve({**listed, **types}).decoder == resolve(QWEN3_NEXT).decoder


def test_3_5_with_experts_inside_its_wrapper() -> None:
    recipe = resolve(QWEN3_5_MOE)
    assert recipe.left_out == "the vision tower (preprocessor_config.json is missing)"
    experts = recipe.decoder.layers[0].ffn
    assert isinstance(experts, MoE)
    assert experts.router == Router(8, renorm=True)
    assert recipe.decoder == resolve(QWEN3_5_MOE["text_config"]).decoder


def test_3_5_without_experts() -> None:
    d = resolve(DENSE_3_5).decoder
    assert {layer.ffn for layer in d.layers} == {Dense(6144)}


def test_another_gate_inside_a_delta_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="output_gate_type 'sigmoid'"):
        resolve({**DENSE_3_5, "output_gate_type": "sigmoid"})


def test_a_strange_layer_type_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="'sliding_attention' is not known"):
        resolve({**QWEN3_NEXT, "layer_types": ["sliding_attention"] * 48})
