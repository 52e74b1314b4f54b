"""Bits shared out by measured sensitivity: the measure against NumPy, the sharing against all possibilities."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.convert.folder import convert_folder, source
from mlxrun.convert.mixed import CHOICES, PROBE, Option, choose_mixed, options, sensitivities, share_out
from mlxrun.convert.names import named
from mlxrun.convert.weight_layout import quantize
from mlxrun.core import RequestError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write
from tests.unit.convert.test_folder import PROMPT, ours, theirs


def checkpoint(folder: Path):
    return open_checkpoint(write(reference("llama").checkpoint(), folder / "source"))


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_sensitivity_is_the_divergence_of_one_module(tmp_path: Path) -> None:
    names = named(*source(checkpoint(tmp_path)))
    modules = {f"model.layers.{i}.self_attn.q_proj": None for i in (0, 2)}
    modules = {name: names.tensors[f"{name}.weight"] for name in modules}
    found = sensitivities(names, modules, PROMPT)
    base = log_softmax(ours(tmp_path / "source").astype(np.float64))
    for name, weight in modules.items():
        plain = dict(reference("llama").checkpoint().weights)
        plain[f"{name}.weight"] = np.array(quantize(weight, PROBE).dequantize())
        case = reference("llama").checkpoint()
        place = write(type(case)(case.config, plain), tmp_path / name)
        other = log_softmax(ours(place).astype(np.float64))
        assert found[name] == pytest.approx((np.exp(base) * (base - other)).sum(-1).mean(), rel=1e-2)
    assert all(value > 0 for value in found.values())


def test_options_cost_less_the_more_bits_they_have() -> None:
    weight = mx.random.normal((64, 128), key=mx.random.key(0))
    found = options(weight, 0.25, 2)
    assert [option.layout for option in found] == list(CHOICES)
    assert [option.bits / weight.size for option in found] == [how.bits + 0.5 for how in CHOICES]
    costs = [option.cost for option in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[CHOICES.index(PROBE)] == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(5))
def test_shared_out_nearly_as_well_as_can_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    table = {
        name: [Option(how, how.bits * 100, float(unit * 4.0**-how.bits)) for how in CHOICES]
        for name, unit in zip("abcd", random.lognormal(0, 2, 4), strict=True)
    }
    budget = 1700.0
    chosen = share_out(table, budget)
    by_layout = {name: {option.layout: option for option in choices} for name, choices in table.items()}
    used = sum(by_layout[name][how].bits for name, how in chosen.items())
    cost = sum(by_layout[name][how].cost for name, how in chosen.items())
    possible = (p for p in product(*table.values()) if sum(o.bits for o in p) <= budget)
    assert used <= budget
    assert cost <= 1.6 * min(sum(o.cost for o in p) for p in possible)


def test_too_small_a_budget() -> None:
    table = {"a": [Option(how, how.bits * 1e6, 1.0) for how in CHOICES]}
    with pytest.raises(RequestError, match="Even at two bits"):
        share_out(table, 1e6)


@pytest.mark.parametrize("size", [{"bits": 2.4}, {"bits": -1.0}, {"bits": float("nan")}, {"file_bytes": 1000}])
def test_what_cannot_be_is_said_before_anything_is_measured(size: dict[str, Any], tmp_path: Path) -> None:
    def measured(done: int, total: int) -> None:
        raise AssertionError

    with pytest.raises(RequestError, match="Even at two bits"):
        choose_mixed(checkpoint(tmp_path), PROMPT, progress=measured, **size)


def test_room_for_all_bits_needs_no_measuring(tmp_path: Path) -> None:
    def measured(done: int, total: int) -> None:
        raise AssertionError

    assert choose_mixed(checkpoint(tmp_path), PROMPT, bits=99, progress=measured).usual == CHOICES[-1]


@pytest.mark.parametrize("bits", [3.5, 5.0, 8.5])
def test_the_file_is_as_small_as_asked(bits: float, tmp_path: Path) -> None:
    found = checkpoint(tmp_path)
    wanted = choose_mixed(found, PROMPT, bits=bits)
    convert_folder(found, tmp_path / "out", wanted=wanted, dtype=mx.float16)
    arrays = mx.load(str(tmp_path / "out/model.safetensors"))
    modules = [name.removesuffix(".scales") for name in arrays if name.endswith(".scales")]
    stored = sum(a.nbytes for name, a in arrays.items() if name.rpartition(".")[0] in modules)
    weights = reference("llama").checkpoint().weights
    values = sum(weights[f"{module}.weight"].size for module in modules)
    assert bits - 1.0 < 8 * stored / values <= bits
    np.testing.assert_allclose(ours(tmp_path / "out"), theirs(tmp_path / "out"), atol=0.05)
