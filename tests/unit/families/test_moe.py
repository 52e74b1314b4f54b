"""What families with experts share: impossible routers are refused, prediction layers are left out."""

from __future__ import annotations

import re

import pytest

from mlxrun.families.config import Config
from mlxrun.families.moe import moe, prediction_rules, refuse, shared_experts, sigmoid_router
from mlxrun.families.rules import Drop
from mlxrun.spec import Dense, ModelError, Router

SIZES = {"model_type": "test", "num_experts": 8, "moe_intermediate_size": 16, "num_experts_per_tok": 2}


def test_experts_of_the_named_width() -> None:
    found = moe(Config(SIZES), Router(2))
    assert (found.experts, found.hidden, found.act, found.gated) == (8, 16, "silu", True)


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts", "n_routed_experts"])
def test_every_spelling_of_the_number_of_experts(key: str) -> None:
    rest = {k: v for k, v in SIZES.items() if k != "num_experts"}
    assert moe(Config({**rest, key: 6}), Router(2)).experts == 6


@pytest.mark.parametrize(
    ("router", "words"),
    [
        (Router(9), "num_experts_per_tok 9"),
        (Router(2, groups=3), "n_group 3"),
        (Router(2, groups=4, top_groups=5), "topk_group 5"),
        (Router(3, groups=4, top_groups=1), "num_experts_per_tok 3"),
    ],
)
def test_an_impossible_router_is_one_sentence(router: Router, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        moe(Config(SIZES), router)


def test_the_sigmoid_router_reads_all_its_keys() -> None:
    keys = {"norm_topk_prob": False, "routed_scaling_factor": 2.5, "n_group": 4, "topk_group": 2}
    found = sigmoid_router(Config({**SIZES, **keys}))
    assert found == Router(2, "sigmoid", renorm=False, scale=2.5, select_bias=True, groups=4, top_groups=2)


@pytest.mark.parametrize(("count", "wanted"), [(2, Dense(32)), (0, None), (None, None)])
def test_shared_experts_are_one_network_of_their_summed_width(count: int | None, wanted: Dense | None) -> None:
    assert shared_experts(Config({**SIZES, "n_shared_experts": count})) == wanted


@pytest.mark.parametrize(
    ("keys", "dropped", "kept"),
    [
        ({}, (61,), (60, 6, 62, 610)),
        ({"num_nextn_predict_layers": 2}, (61, 62), (60, 63)),
        ({"num_mtp_layers": 1}, (61,), (62,)),
        ({"num_nextn_predict_layers": 0}, (), (61,)),
    ],
)
def test_layers_after_the_last_predict(keys: dict[str, int], dropped: tuple[int, ...], kept: tuple[int, ...]) -> None:
    rules = prediction_rules(Config(keys), 61)

    def goes(layer: int) -> bool:
        return any(isinstance(r, Drop) and re.search(r.src, f"model.layers.{layer}.eh_proj.weight") for r in rules)

    assert all(map(goes, dropped))
    assert not any(map(goes, kept))


@pytest.mark.parametrize("count", [-1, 65, True, "1"])
def test_a_strange_number_of_prediction_layers_is_refused(count: object) -> None:
    with pytest.raises(ModelError, match="num_nextn_predict_layers"):
        prediction_rules(Config({"num_nextn_predict_layers": count}), 61)


def test_a_key_that_would_need_other_mathematics_is_refused() -> None:
    c = Config({"model_type": "test", "scoring_func": "softmax"})
    refuse(c, "topk_method", "noaux_tc")
    with pytest.raises(ModelError, match="scoring_func 'softmax' is not supported for test"):
        refuse(c, "scoring_func", "sigmoid")
