"""Which layers each machine has, and what of a recipe is left for it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from mlxrun.families import resolve
from mlxrun.machines.cut import cut_layers, layer_bytes, may_cut, share_of, why_not
from mlxrun.spec import ModelError
from mlxrun.weights.apply import apply_rules
from tests.golden.checkpoint import reference


def fullest(shares: list[range], sizes: list[int], first: int, memories: list[int]) -> float:
    own = [sum(sizes[layer] for layer in layers) for layers in shares]
    return max((size + (first if i == 0 else 0)) / memories[i] for i, size in enumerate(own))


def test_no_other_cut_leaves_the_fullest_machine_less_full() -> None:
    chance = random.Random(19)
    for _ in range(40):
        machines = chance.randint(2, 4)
        sizes = [chance.randint(1, 9) for _ in range(chance.randint(machines, 8))]
        memories = [chance.randint(5, 40) for _ in range(machines)]
        first = chance.randint(0, 12)
        found = cut_layers(sizes, first, memories)
        assert [layer for share in found for layer in share] == list(range(len(sizes)))
        assert all(found)
        cuts = itertools.combinations(range(1, len(sizes)), machines - 1)
        every = ([range(a, b) for a, b in itertools.pairwise((0, *cut, len(sizes)))] for cut in cuts)
        assert fullest(found, sizes, first, memories) == min(fullest(one, sizes, first, memories) for one in every)


def test_a_machine_with_three_times_the_memory_has_three_times_the_layers() -> None:
    assert cut_layers([10] * 16, 0, [30, 10]) == [range(12), range(12, 16)]


def test_layers_that_belong_together_are_not_cut_apart() -> None:
    assert cut_layers([1] * 4, 0, [1, 1], lambda at: at != 2) in ([range(1), range(1, 4)], [range(3), range(3, 4)])
    with pytest.raises(ModelError, match="4 layers cannot be cut into shares for 2 machines"):
        cut_layers([1] * 4, 0, [1, 1], lambda at: False)


def test_more_machines_than_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="2 layers cannot be cut into shares for 3 machines"):
        cut_layers([1, 1], 0, [1, 1, 1])


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt2", "deepseek_v3", "jamba"])
def test_shares_have_every_weight_once_under_the_names_of_their_layers(name: str) -> None:
    import mlx.core as mx

    stored = reference(name).checkpoint()
    recipe = resolve(stored.config)
    tensors = {key: mx.array(value) for key, value in stored.weights.items()}
    whole = apply_rules(recipe.rules, tensors)
    count = len(recipe.decoder.layers)
    sizes, rest = layer_bytes(whole, count)
    assert sum(sizes) + rest == sum(weight.nbytes for weight in whole.values())
    seen: dict[str, object] = {}
    for layers in (range(1), range(1, count)):
        share = share_of(recipe, layers)
        assert share.decoder.layers == recipe.decoder.layers[layers.start : layers.stop]
        for key, weight in apply_rules(share.rules, tensors).items():
            words = key.split(".")
            if words[0] == "layers":
                words[1] = str(int(words[1]) + layers.start)
            else:
                assert layers.start == 0, f"{key} is the first machine's"
            assert seen.setdefault(".".join(words), weight) is weight
    assert seen.keys() == whole.keys()


def test_layers_that_borrow_keys_stay_with_those_that_lend_them() -> None:
    decoder = resolve(reference("gemma4_small").config).decoder
    allowed = [at for at in range(1, len(decoder.layers)) if may_cut(decoder.layers, at)]
    lenders = [n for n, layer in enumerate(decoder.layers) if getattr(layer.mixer, "lends", None) is not None]
    assert lenders
    assert all(at <= min(lenders) for at in allowed)


def test_what_is_not_run_on_several_machines_is_told() -> None:
    recipe = resolve(reference("gemma4_small").config)
    if recipe.decoder.per_layer is not None:
        assert "per-layer" in str(why_not(recipe))
    plain = resolve(reference("llama").config)
    assert why_not(plain) is None
    assert "an encoder" in str(why_not(replace(plain, decoder=replace(plain.decoder, kind="encoder"))))
