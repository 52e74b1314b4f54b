"""GPTQ, AWQ, compressed-tensors, FP8, NVFP4 and BitNet against NumPy; and files that contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from foreign_files import EXACT, LOSSY, packed_integers
from weight_files import one_sentence, values_of

from mlxrun.convert.folder import convert_folder
from mlxrun.loading import load_model
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import ModelError
from mlxrun.weights import gather_parts, open_checkpoint
from tests.golden import exact
from tests.golden.checkpoint import Checkpoint, reference, write

ALL = {**EXACT, **LOSSY}
MATRIX = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
LOSS = 0.008  # relative, measured up to 0.006 for fp8


def made(what: str, w: np.ndarray = MATRIX) -> tuple[dict[str, mx.array], np.ndarray, dict[str, Any]]:
    said, maker = ALL[what]
    tensors, values = maker("a.proj", w)
    extra = {"a.norm": np.ones(3, np.float32), "a.proj.input_scale": np.ones(1, np.float32)}
    return {k: mx.array(v) for k, v in {**tensors, **extra}.items()}, values, {"quantization_config": said}


@pytest.mark.parametrize("what", EXACT)
def test_bit_for_bit(what: str) -> None:
    tensors, values, config = made(what)
    found = gather_parts(tensors, config)
    assert set(found) == {"a.proj.weight", "a.norm"}
    assert isinstance(found["a.proj.weight"], QuantizedWeight)
    np.testing.assert_allclose(values_of(found["a.proj.weight"]), values, rtol=1e-6, atol=1e-7)
    assert found["a.proj.weight"].bits <= 8


@pytest.mark.parametrize("what", [w for w in EXACT if "plain" not in w and "bitnet" not in w and "int8" not in w])
def test_they_keep_their_bits(what: str) -> None:
    """A power-of-two step of half precision stays what it is; elsewhere one product is rounded as NumPy rounds it."""
    tensors, values, config = made(what)
    weight = gather_parts(tensors, config)["a.proj.weight"]
    assert np.array_equal(values_of(weight), values)
    assert weight.bits == (int(what[-1]) if what[-1].isdigit() else 4)


@pytest.mark.parametrize("what", LOSSY)
def test_the_nearest_there_is(what: str) -> None:
    tensors, values, config = made(what)
    weight = gather_parts(tensors, config)["a.proj.weight"]
    error = values_of(weight) - values
    assert 0 < np.sqrt((error**2).sum() / (values**2).sum()) < LOSS
    assert (weight.bits, weight.group) == (8, 32)


def folder(what: str, place: Path) -> tuple[Path, Path]:
    """(a llama whose projections are in the format, the same with what they stand for)."""
    base = reference("llama").checkpoint()
    packed, plain = dict(base.weights), dict(base.weights)
    for name in [name for name in packed if "_proj.weight" in name]:
        tensors, values = ALL[what][1](name.removesuffix(".weight"), packed.pop(name))
        packed |= tensors
        plain[name] = values
    config = {**base.config, "quantization_config": ALL[what][0]}
    return write(Checkpoint(config, packed), place / "packed"), write(Checkpoint(base.config, plain), place / "plain")


def logits(place: Path) -> np.ndarray:
    ids = [3, 17, 44, 9, 41, 28, 5]
    model = load_model(place, dtype=mx.float32, options=exact.EXACT)
    return np.array(model.logits(model(mx.array(ids), [(model.new_sequence(16), len(ids))])))


@pytest.mark.parametrize("what", ALL)
def test_end_to_end(what: str, tmp_path: Path) -> None:
    packed, plain = folder(what, tmp_path)
    wanted = logits(plain)
    np.testing.assert_allclose(logits(packed), wanted, atol=5e-5 if what in EXACT else 0.15)
    losses = list(open_checkpoint(packed).losses())
    assert bool(losses) is (what in LOSSY)
    assert all(0 < error < LOSS * 1.5 for _, _, error in losses)


# ---- what contradicts itself --------------------------------------------------------------------

Change = Callable[[dict[str, mx.array], dict[str, Any]], object]
BAD: dict[str, tuple[str, Change, str]] = {
    "gptq: bits": ("gptq 4", lambda t, q: q.update(bits=5), "bits of quantization_config is 5"),
    "gptq: bits that are not its own": ("gptq 4", lambda t, q: q.update(bits=2), "which is not 2 bits"),
    "gptq: format": ("gptq 4", lambda t, q: q.update(checkpoint_format="marlin"), "'marlin'"),
    "gptq: no scales": ("gptq 4", lambda t, q: t.pop("a.proj.scales"), "has no scales"),
    "gptq: no zeros": ("gptq 4", lambda t, q: t.pop("a.proj.qzeros"), "has no qzeros"),
    "gptq: groups": ("gptq 4", lambda t, q: t.update({"a.proj.scales": mx.ones((7, 64))}), "qzeros of shape"),
    "gptq: outputs": ("gptq 4", lambda t, q: t.update({"a.proj.scales": mx.ones((8, 32))}), "beside scales"),
    "gptq: order": (
        "gptq 4",
        lambda t, q: t.update({"a.proj.g_idx": mx.full((256,), 8, mx.int32)}),
        "a group beyond its 8",
    ),
    "gptq: negative order": (
        "gptq 4",
        lambda t, q: t.update({"a.proj.g_idx": mx.full((256,), -1, mx.int32)}),
        "a group beyond",
    ),
    "gptq: short order": ("gptq 4", lambda t, q: t.update({"a.proj.g_idx": mx.zeros((9,), mx.int32)}), "g_idx of 9"),
    "gptq: type": ("gptq 4", lambda t, q: t.update({"a.proj.qweight": mx.ones((32, 64))}), "of type float32"),
    "gptq: nothing": ("gptq 4", lambda t, q: t.pop("a.proj.qweight"), "no tensor is a qweight"),
    "awq: version": ("awq", lambda t, q: q.update(version="gemv_fast"), "'gemv_fast'"),
    "awq: outputs": ("awq", lambda t, q: t.update({"a.proj.scales": mx.ones((8, 63))}), "must be alike"),
    "ct: format": ("ct int4", lambda t, q: q.update(format="marlin-24"), "'marlin-24'"),
    "ct: no groups": ("ct int4", lambda t, q: q.pop("config_groups"), "no config_groups"),
    "ct: shape": (
        "ct int4",
        lambda t, q: t.update({"a.proj.weight_shape": mx.array([64, 200])}),
        "is not [64, 200] in [4] bits",
    ),
    "ct: rows": ("ct int4", lambda t, q: t.update({"a.proj.weight_scale": mx.ones((63, 8))}), "beside 64 rows"),
    "ct: no scale": ("ct int4", lambda t, q: t.pop("a.proj.weight_scale"), "no tensor is a weight_scale"),
    "ct: uneven": ("ct int4", lambda t, q: t.update({"a.proj.weight_scale": mx.ones((64, 7))}), "do not divide evenly"),
    "ct: mxfp4": ("ct mxfp4", lambda t, q: t.update({"a.proj.weight_scale": mx.zeros((64, 7), mx.uint8)}), "not mxfp4"),
    "fp8: block": ("fp8 blocks", lambda t, q: q.update(weight_block_size=[16, 16]), "does not cover"),
    "fp8: no block": ("fp8 blocks", lambda t, q: q.pop("weight_block_size"), "no block size"),
    "fp8: nothing": ("fp8 blocks", lambda t, q: t.pop("a.proj.weight_scale_inv"), "no weight_scale_inv"),
    "modelopt: method": ("modelopt fp8", lambda t, q: q.update(quant_algo="W4A8_AWQ"), "'W4A8_AWQ'"),
    "modelopt: second scale": ("modelopt nvfp4", lambda t, q: t.pop("a.proj.weight_scale_2"), "has no weight_scale_2"),
    "bitnet: scales": ("bitnet", lambda t, q: t.update({"a.proj.weight_scale": mx.ones((2,))}), "there must be one"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_named(what: str) -> None:
    form, change, words = BAD[what]
    tensors, _, config = made(form)
    config = {"quantization_config": {**config["quantization_config"]}}
    change(tensors, config["quantization_config"])
    with pytest.raises(ModelError) as error:
        gather_parts(tensors, config)
    assert words in one_sentence(error.value)


def test_groups_too_small(tmp_path: Path) -> None:
    tensors, _ = packed_integers(4, 16)("a.proj", MATRIX)
    with pytest.raises(ModelError, match="groups of 16 inputs; multiples of 32"):
        gather_parts({k: mx.array(v) for k, v in tensors.items()}, {"quantization_config": EXACT["ct int4"][0]})


# ---- ModelOpt's own file ------------------------------------------------------------------------


def older(what: str, place: Path) -> tuple[Path, Path]:
    """As `folder`, with the quantization in a file beside config.json."""
    packed, plain = folder(what, place)
    config = json.loads((packed / "config.json").read_text())
    said = config.pop("quantization_config")
    said.pop("quant_method")
    (packed / "config.json").write_text(json.dumps(config))
    tell(packed, {"name": "modelopt", "version": "0.23.0"}, {**said, "kv_cache_quant_algo": None})
    return packed, plain


def tell(place: Path, producer: object, quantization: object) -> None:
    found = {"producer": producer, "quantization": quantization}
    (place / "hf_quant_config.json").write_text(json.dumps(found))


@pytest.mark.parametrize("what", ["modelopt fp8", "modelopt nvfp4"])
def test_modelopt_that_is_told_in_a_file_of_its_own(what: str, tmp_path: Path) -> None:
    packed, plain = older(what, tmp_path)
    assert np.abs(logits(packed) - logits(plain)).max() < 0.05 * np.abs(logits(plain)).max()
    assert {method for _, method, _ in open_checkpoint(packed).losses()} == {"modelopt"}
    convert_folder(open_checkpoint(packed), tmp_path / "out")
    assert not (tmp_path / "out" / "hf_quant_config.json").exists()
    assert np.allclose(logits(tmp_path / "out"), logits(packed), atol=1e-4)


def test_config_json_is_believed_where_both_say_something(tmp_path: Path) -> None:
    packed, _ = folder("modelopt fp8", tmp_path)
    tell(packed, {"name": "modelopt"}, {"quant_algo": "W4A8_AWQ"})
    assert open_checkpoint(packed).config["quantization_config"]["quant_algo"] == "FP8"


def test_quantized_keys_alone_change_no_weight(tmp_path: Path) -> None:
    _, plain = folder("modelopt fp8", tmp_path)
    before = logits(plain)
    tell(plain, {"name": "modelopt"}, {"quant_algo": None, "kv_cache_quant_algo": "FP8"})
    assert np.array_equal(logits(plain), before)


@pytest.mark.parametrize(
    ("producer", "said", "words"),
    [
        ({"name": "other"}, {"quant_algo": "FP8"}, "hf_quant_config.json"),
        (None, {"quant_algo": "FP8"}, "hf_quant_config.json"),
        ({"name": "modelopt"}, [], "hf_quant_config.json"),
        ({"name": "modelopt"}, {"quant_algo": "W4A8_AWQ"}, "'W4A8_AWQ'"),
    ],
)
def test_a_file_of_its_own_that_cannot_be_believed(producer: object, said: object, words: str, tmp_path: Path) -> None:
    packed, _ = older("modelopt fp8", tmp_path)
    tell(packed, producer, said)
    with pytest.raises(ModelError) as error:
        load_model(packed)
    assert words in one_sentence(error.value)
