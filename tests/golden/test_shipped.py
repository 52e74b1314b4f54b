"""What the self-test ships is what the references say, and its quick form leaves out no kind of layer."""

from __future__ import annotations

import json

import numpy as np

from mlxrun.families import resolve
from mlxrun.nn.layer import FEED_FORWARDS, MIXERS
from mlxrun.selftest import families, starter

from . import said, shipped
from .cases import CASES

MOST_BYTES = 80 << 10


def test_it_is_what_the_references_say() -> None:
    held = {case.name: case for case in families.cases()}
    assert list(held) == list(CASES), "make golden writes the shipped file again"
    for name, told, row in shipped.manifest():
        case = held[name]
        np.testing.assert_array_equal(case.expected, row, err_msg=name)
        again = json.loads(json.dumps(told))
        assert (case.config, case.seed, list(case.prompt)) == (again["config"], again["seed"], again["prompt"])
        assert {key: list(value) for key, value in case.tensors.items()} == again["tensors"]
        assert (case.encoder, case.mixture, case.quick) == (again["encoder"], again["mixture"], again["quick"])
    assert shipped.FILE.stat().st_size < MOST_BYTES


def test_the_quick_ones_have_every_kind_of_mixer_and_network() -> None:
    layers = [layer for case in families.cases() if case.quick for layer in resolve(case.config, "hf").decoder.layers]
    assert {type(layer.mixer) for layer in layers} >= set(MIXERS)
    assert {type(layer.ffn) for layer in layers} >= set(FEED_FORWARDS)


def test_answers_are_recorded_with_how_sure_they_were() -> None:
    """Whether they are what the model says, the self-test's own part finds out."""
    held = starter.recorded()
    assert tuple(one.asked for one in held) == said.ASKED
    for one in held:
        assert 0 < len(one.tokens) == len(one.margins) <= said.TOKENS
        assert min(one.margins) >= 0
    assert max(margin for one in held for margin in one.margins) > starter.NEAR
