"""DeepSeek V3 and its kin: the softmax's scale, routers, indexers, which layers have experts."""

from __future__ import annotations

import math

import pytest

from mlxrun.families import resolve
from mlxrun.families.rules import Drop
from mlxrun.spec import Dense, LatentAttention, ModelError, MoE, Router, Temperature
from tests.unit.families.published import DEEPSEEK_V3, KIMI_K2

INDEX = {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64}
V32 = {**DEEPSEEK_V3, **INDEX, "model_type": "deepseek_v32"}
GLM_DSA = {
    **{k: v for k, v in DEEPSEEK_V3.items() if not k.startswith("rope")},
    **INDEX,
    "model_type": "glm_moe_dsa",
    "num_hidden_layers": 6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000},
}


def mixers(config: dict[str, object]) -> list[LatentAttention]:
    found = [layer.mixer for layer in resolve(config).decoder.layers]
    assert all(isinstance(mixer, LatentAttention) for mixer in found)
    return found  # type: ignore[return-value]  # just asserted


def test_v3_as_published() -> None:
    recipe = resolve(DEEPSEEK_V3)
    d = recipe.decoder
    assert (d.dim, d.vocab, len(d.layers), d.tied) == (7168, 129280, 61, False)
    assert [isinstance(layer.ffn, Dense) for layer in d.layers] == [True] * 3 + [False] * 58
    experts = d.layers[3].ffn
    assert isinstance(experts, MoE)
    assert experts.router == Router(8, "sigmoid", renorm=True, scale=2.5, select_bias=True, groups=8, top_groups=4)
    assert (experts.experts, experts.hidden, experts.shared) == (256, 2048, Dense(2048))
    assert d.layers[0].ffn == Dense(18432)
    first = recipe.rules[0]
    assert isinstance(first, Drop)
    assert first.src == r"^(?:model\.)?layers\.(?:61)\."


def test_yarn_sharpens_the_softmax_twice_and_leaves_the_rope_alone() -> None:
    mixer = mixers(DEEPSEEK_V3)[0]
    mscale = 0.1 * math.log(40) + 1.0
    assert mixer.scale == pytest.approx(192**-0.5 * mscale**2)
    assert mixer.rope.scale == 1.0
    assert (mixer.rope.dims, mixer.rope.interleaved) == (64, True)


def test_without_mscale_all_dim_the_scale_is_the_plain_one() -> None:
    scaling = {k: v for k, v in DEEPSEEK_V3["rope_scaling"].items() if not k.startswith("mscale")}
    mixer = mixers({**DEEPSEEK_V3, "rope_scaling": scaling})[0]
    assert mixer.scale == pytest.approx(192**-0.5)
    assert mixer.rope.scale == pytest.approx(0.1 * math.log(40) + 1.0)


def test_kimi_is_v3_without_groups_or_prediction() -> None:
    recipe = resolve(KIMI_K2)
    experts = recipe.decoder.layers[1].ffn
    assert isinstance(experts, MoE)
    assert (experts.router.groups, experts.router.scale, experts.experts) == (1, 2.827, 384)
    assert not any(isinstance(rule, Drop) and "61" in rule.src for rule in recipe.rules)


def test_kimi_inside_its_wrapper_is_the_same() -> None:
    outer = {"model_type": "kimi_k25", "text_config": KIMI_K2, "vision_config": {"num_hidden_layers": 27}}
    assert resolve(outer).decoder == resolve(KIMI_K2).decoder


def test_queries_may_be_whole() -> None:
    assert mixers({**DEEPSEEK_V3, "q_lora_rank": None})[0].q_rank is None


@pytest.mark.parametrize(
    ("key", "value"), [("scoring_func", "softmax"), ("topk_method", "greedy"), ("moe_layer_freq", 2)]
)
def test_another_router_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=key):
        resolve({**DEEPSEEK_V3, key: value})


@pytest.mark.parametrize(("config", "interleaved"), [(V32, False), (GLM_DSA, True)])
def test_the_indexers_rope_has_its_own_pairs(config: dict[str, object], interleaved: bool) -> None:
    mixer = mixers(config)[0]
    assert mixer.indexer is not None
    assert (mixer.indexer.heads, mixer.indexer.dim, mixer.indexer.top_k) == (64, 128, 2048)
    assert mixer.indexer.rope.interleaved is interleaved
    assert mixer.rope.interleaved
    assert mixer.indexer.rope.freqs == mixer.rope.freqs
    said = mixers({**config, "indexer_rope_interleave": not interleaved})[0].indexer
    assert said is not None
    assert said.rope.interleaved is not interleaved


@pytest.mark.parametrize(
    "keys",
    [
        {"indexer_types": ["full", "shared", "shared", "full", "full", "shared"]},
        {"index_topk_pattern": "FSSFFS"},
    ],
)
def test_a_shared_layer_takes_the_choice_of_the_full_one_before(keys: dict[str, object]) -> None:
    found = mixers({**GLM_DSA, **keys})
    assert [m.borrows for m in found] == [None, 0, 0, None, None, 4]
    assert [m.indexer.lends if m.indexer else "none" for m in found] == [0, "none", "none", None, 4, "none"]


def test_every_second_layer_may_share() -> None:
    found = mixers({**GLM_DSA, "index_topk_freq": 2, "index_skip_topk_offset": 1})
    assert [m.indexer is None for m in found] == [False, True] * 3


@pytest.mark.parametrize("types", [["shared"] * 6, ["full"] * 5, ["full"] * 5 + ["half"], "full"])
def test_strange_indexer_types_are_refused(types: object) -> None:
    with pytest.raises(ModelError, match="indexer_types"):
        resolve({**GLM_DSA, "indexer_types": types})


def test_listed_experts_win_over_the_number_of_dense_layers() -> None:
    types = ["dense", "sparse", "dense", "sparse", "sparse", "sparse"]
    layers = resolve({**GLM_DSA, "mlp_layer_types": types}).decoder.layers
    assert ["sparse" if isinstance(layer.ffn, MoE) else "dense" for layer in layers] == types


def test_mistral_4_routes_by_softmax_and_has_a_temperature() -> None:
    rope = {**DEEPSEEK_V3["rope_scaling"], "rope_type": "yarn", "rope_theta": 10000.0, "llama_4_scaling_beta": 0.1}
    rope.pop("type")
    kept = {k: v for k, v in DEEPSEEK_V3.items() if k not in ("rope_scaling", "rope_theta")}
    for key in ("aux_loss_alpha", "ep_size", "seq_aux", "scoring_func", "topk_method", "moe_layer_freq"):
        kept.pop(key)
    config = {**kept, "model_type": "mistral4", "rope_parameters": {**rope, "partial_rotary_factor": 1 / 3}}
    recipe = resolve({**config, "first_k_dense_replace": 0})
    mixer, experts = recipe.decoder.layers[0].mixer, recipe.decoder.layers[0].ffn
    assert isinstance(mixer, LatentAttention)
    assert isinstance(experts, MoE)
    assert (experts.router.score, experts.router.select_bias) == ("softmax", False)
    assert mixer.temperature == Temperature(0.1, 4096.0)
    assert mixer.rope.dims == 64  # its partial factor is of the whole query
