"""Every case as a person loads it: packed for the native CPU kernels, branches fused, steps as one node.

In `exact` precision and in `fast`, whole, in chunks, in ragged batches, rewound and stepped; from the weights as they
are and from quantized ones. What serves is heard and must be what the spec says, and every fast form that a family's
config can reach must have served one of its cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.families import resolve
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.forms import widen_weight
from mlxrun.loading.model import Model
from mlxrun.loading.open import open_model
from mlxrun.nn.decoder import DecoderModel
from mlxrun.nn.params import Forms
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.native import pack
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.spec import ModelError
from mlxrun.weights import read_weights

from . import choices, measure, record, served
from .cases import CASES
from .checkpoint import Checkpoint, Reference, reference, write
from .measure import Driver
from .redrawn import REDRAWN

NATIVE = this_device().native  # without native kernels both are exact
# differences as a part of the largest output. Measured with AVX-512: exact up to 7.2e-6, of quantized weights 1.0e-5;
# without native kernels it is MLX that computes, as near as in `test_golden.py`
EXACT, EXACT_OF_CODES = 1e-5 if NATIVE else 5e-5, 2e-5
# keys are float16, and activations integers of 15 bits: up to 1.9e-3 and 2.8e-3; from one pass to another 1.7e-4
FAST, FAST_AGAIN = 4e-3, 1e-3
NEAR = 2e-3  # of a router's score: experts nearer than this may change places in `fast`
# in how many rows they do at most, over all routers; margins are 5e-5 to 5.9e-4; qwen3_moe_plain with AVX2 only
FLIPS = {"phimoe": 1}
FLIPS_OF_CODES = {"glm_moe_dsa_dense": 1, "granitemoe": 1, "qwen3_moe_plain": 1, "solar_open_negative": 1}
FEW_CODES = {"bloom": "its rows have 72 values, which is no number of whole groups"}
PRECISE, QUICK = this_device("exact"), this_device("fast")
NAMES = [*CASES, *REDRAWN]
only_native = pytest.mark.skipif(not NATIVE, reason="there are no native CPU kernels here, or a GPU does better")


@dataclass(frozen=True)
class Known:
    """A case, or one redrawn: its outputs, its files, and the case beside which it counts."""

    reference: Reference
    checkpoint: Checkpoint
    beside: str

    @property
    def top(self) -> float:
        return float(np.abs(self.reference.expected).max())


def known_as(name: str) -> Known:
    base, beside, make = REDRAWN.get(name, (name, name, None))
    found = reference(base)
    return Known(found, make(found.checkpoint()) if make else found.checkpoint(), beside)


def loaded(folder: Path, known: Reference, device: Device) -> Driver:
    return Driver(load_model(folder, options=LoadOptions(device=device)), known)


def ways(known: Reference) -> dict[str, Callable[[Driver, Reference], float]]:
    found: dict[str, Callable[[Driver, Reference], float]] = {"whole": measure.whole, "ragged": measure.ragged}
    if not known.encoder:
        rewound = partial(measure.rewound, points=2)
        found |= {"chunked": measure.chunked, "rewound": rewound, "stepped": measure.stepped}
    return found


def branches(exact: Driver, fast: Driver, known: Reference, most: int, allowed: float) -> tuple[list[Reference], float]:
    """What `fast` passes are compared with, the nearest of these, and how far one layer by layer is from the reference.

    Where near experts change places, a whole pass with the choices of the exact one must be as near as any other, and
    further passes may go the way of its own choices as well."""
    with layer_by_layer(exact, fast):
        with choices.heard() as before:
            exact.alone(known.prompt)
        with choices.as_in(before) as flips:
            out = fast.alone(known.prompt)
        own = fast.alone(known.prompt) if flips else out
    off = measure.apart(out, known.expected)
    assert off <= allowed, f"{known.name}, fast: off by {off:.1e}"
    assert len(flips) <= most, f"{known.name}: other experts in {flips}"
    assert all(flip.margin < NEAR for flip in flips), f"{known.name}: experts were not near in {flips}"
    return [known, *([replace(known, expected=own)] if flips else [])], off


@contextmanager
def layer_by_layer(*drivers: Driver) -> Iterator[None]:
    """What layers' own branches compute, where routers can be heard."""
    with pytest.MonkeyPatch.context() as patch:
        for driver in drivers:
            patch.setattr(driver.model.decoder, "runs", driver.model.decoder.single)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_as_a_person_loads_it(name: str, tmp_path: Path) -> None:
    known = known_as(name)
    folder = write(known.checkpoint, tmp_path)
    exact, fast = (loaded(folder, known.reference, device) for device in (PRECISE, QUICK))
    found: dict[str, float] = {}
    with served.listening() as heard:
        for way, measured in ways(known.reference).items():
            found[f"{way}, exact"] = measured(exact, known.reference)
        either, found["layer by layer, fast"] = branches(
            exact, fast, known.reference, FLIPS.get(known.beside, 0), FAST * known.top
        )
        for way, measured in ways(known.reference).items():
            found[f"{way}, fast"] = min(measured(fast, wanted) for wanted in either)
        with layer_by_layer(exact):
            found["layer by layer, exact"] = measure.ragged(exact, known.reference)
    for check, difference in found.items():
        record.keep(known.beside, f"default {check.rpartition(' ')[2]}", difference)
    again = ("ragged, fast", "rewound, fast")  # against passes of the same precision
    limits = {check: EXACT if "exact" in check else FAST_AGAIN if check in again else FAST for check in found}
    wrong = {check: f"{d:.1e}" for check, d in found.items() if not d <= limits[check] * known.top}
    assert not wrong, f"{name}, of outputs up to {known.top:.1f}"
    if NATIVE:
        assert set(heard) == served.reach(exact.model.spec), "what serves is not what the spec says"


@pytest.mark.parametrize("name", ["phi3_longrope_long", "phimoe_longrope"])
def test_short_and_long_sessions_in_one_pass(name: str, tmp_path: Path) -> None:
    """Positions turn heads otherwise in a session longer than 64: no form with one table for all may serve."""
    known = known_as(name)
    driver = loaded(write(known.checkpoint, tmp_path), known.reference, PRECISE)
    tokens, outs = list(known.reference.prompt[:20]), []
    for contexts in ((64,), (65,), (64, 65)):
        memories = [driver.model.new_sequence(context=context) for context in contexts]
        parts = [driver.run([(memory, tokens[:15]) for memory in memories])]
        parts += [driver.run([(memory, [token]) for memory in memories]) for token in tokens[15:]]
        outs += [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    short, long, *both = outs
    assert measure.apart(short, long) > 0.01
    assert max(map(measure.apart, both, (short, long))) <= EXACT * known.top


# ---- quantized weights ---------------------------------------------------------------------------


def coded(weight: Weight) -> Weight:
    """In four bits, where its rows are whole groups."""
    if not isinstance(weight, mx.array) or weight.shape[-1] % 32:
        return weight
    return QuantizedWeight(*mx.quantize(weight.astype(mx.float32), 32, 4), "affine", 4, 32)


@only_native
@pytest.mark.parametrize("name", NAMES)
def test_quantized_weights_against_the_same_in_float32(name: str, tmp_path: Path) -> None:
    """Products of integers, which plain weights never reach. Four bits are other numbers: the reference is our own
    float32 path, which the other tests hold against transformers."""
    known = known_as(name)
    opened, kinds = open_model(write(known.checkpoint, tmp_path)), []
    recipe = opened.recipe

    def driver(matrix: Callable[[Weight], Any], device: Device) -> Driver:
        forms = Forms(matrix=matrix, other=widen_weight)
        weights = read_weights(opened.checkpoint, recipe)
        decoder = DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded, forms=forms)
        return Driver(Model(decoder), known.reference)

    def packed(weight: Weight) -> Any:
        kinds.append(isinstance(found := coded(weight), QuantizedWeight))
        return pack(found)

    plain = driver(lambda weight: widen_weight(coded(weight)), PRECISE)
    exact, fast = driver(packed, PRECISE), driver(packed, QUICK)
    assert name in FEW_CODES or sum(kinds) > len(kinds) * 2 // 3
    wanted = replace(known.reference, expected=plain.alone(known.reference.prompt))
    some = [way for way in ways(known.reference) if way in ("whole", "stepped")]
    for way in some:
        off = getattr(measure, way)(exact, wanted)
        assert off <= EXACT_OF_CODES * known.top, f"{way}, exact: off by {off:.1e}"
    either, _ = branches(exact, fast, wanted, FLIPS_OF_CODES.get(known.beside, 0), FAST * known.top)
    for way in some:
        off = min(getattr(measure, way)(fast, wanted) for wanted in either)
        assert off <= FAST * known.top, f"{way}, fast: off by {off:.1e}"


# ---- no form without a case ----------------------------------------------------------------------

ACTS = ("silu", "gelu", "relu", "relu2", "gelu_pytorch_tanh")


def variations(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config with one key changed: a flag turned, a number left out, a single layer, layers alike, no experts,
    another activation."""
    for key, value in config.items():
        others: list[Any] = []
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int | float):
            others = [None, *([1] if key == "num_hidden_layers" else []), *([0] if "experts" in key else [])]
        elif key == "layer_types":
            others = [[kind] * len(value) for kind in ("attention", "full_attention", "sliding_attention")]
        elif key in ("hidden_act", "hidden_activation", "activation_function"):
            others = list(ACTS)
        yield from ({**config, key: other} for other in others)


def configs_of(model_type: str) -> list[dict[str, Any]]:
    found = [reference(name).config for name, case in CASES.items() if case.model_type == model_type]
    redrawn = [name for name, (_, beside, _) in REDRAWN.items() if CASES[beside].model_type == model_type]
    return found + [known_as(name).checkpoint.config for name in redrawn]


@pytest.mark.parametrize("model_type", sorted({case.model_type for case in CASES.values()}))
def test_no_family_reaches_a_form_that_none_of_its_cases_does(model_type: str) -> None:
    """What its cases reach has served them: the first test heard it."""
    own, reached = configs_of(model_type), dict[str, dict[str, Any]]()
    covered = {form for config in own for form in served.reach(resolve(config, "hf").decoder)}
    for config in own:
        for other in variations(config):
            try:
                found = served.reach(resolve(other, "hf").decoder)
            except ModelError:
                continue
            changed = {key: value for key, value in other.items() if config[key] is not value}
            reached |= dict.fromkeys(found - covered, changed)
    assert not reached
