"""`convert --adapter`: what is written is the sum, rounded once, in whatever form the model's files are."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun import cli
from mlxrun.convert import loss
from mlxrun.convert.folder import convert_folder, source
from mlxrun.convert.fuse import fused_with
from mlxrun.convert.to_gguf import to_gguf
from mlxrun.convert.weight_layout import Wanted, everywhere, layout
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write
from tests.server.tiny import write_tiny

from .made import ALPHA, RANK, Pair, drawn_pairs, merged, stored, write_mlx, write_peft
from .plain import plain_outputs
from .test_files import outputs, write_gguf

SCALE = ALPHA / RANK


def fused(base: Path, adapter: Path, out: Path, wanted: Wanted | None = None) -> dict[str, mx.array]:
    checkpoint = open_checkpoint(base)
    convert_folder(checkpoint, out, wanted=wanted, fused=fused_with(checkpoint, adapter))
    return loaded(out)


def loaded(folder: Path) -> dict[str, mx.array]:
    found = mx.load(str(folder / "model.safetensors"))
    assert isinstance(found, dict)
    return found


def assert_close(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert got.keys() == wanted.keys()
    for name in got:
        np.testing.assert_allclose(np.array(got[name]), np.array(wanted[name]), rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", ["llama_bias", "gpt2", "phi3", "qwen3_moe", "deepseek_v3", "mamba"])
def test_the_sum_is_written(name: str, tmp_path: Path) -> None:
    """Also where an adapter cannot be served beside the model: experts, routers, tables of latent attention."""
    checkpoint, turned = reference(name).checkpoint(), name == "gpt2"
    pairs = {key: pair for key, pair in drawn_pairs(checkpoint, turned=turned).items() if "layer.weight" not in key}
    adapter = write_peft(tmp_path / "one", pairs, fan_in_fan_out=turned)
    base = open_checkpoint(write(checkpoint, tmp_path / "base"))
    got = fused_with(base, adapter)(source(base)[0], None, anew=False)
    both = open_checkpoint(write(merged(checkpoint, pairs, SCALE, turned=turned), tmp_path / "both"))
    assert_close(got, source(both)[0])


def test_it_is_rounded_once(tmp_path: Path) -> None:
    """Changes far smaller than a step of bfloat16 move what lies near its edge, as they do in float64."""
    checkpoint = reference("llama").checkpoint()
    pairs = drawn_pairs(checkpoint)
    base = write(checkpoint, tmp_path / "base")
    tensors = {name: weight.astype(mx.bfloat16) for name, weight in loaded(base).items()}
    mx.save_safetensors(str(base / "model.safetensors"), tensors, {"format": "pt"})
    got = fused(base, write_peft(tmp_path / "one", pairs), tmp_path / "out")
    steps = total = 0
    for name, pair in pairs.items():
        exact = np.array(tensors[name].astype(mx.float32), np.float64) + SCALE * pair.b.astype(np.float64) @ pair.a
        wanted = np.array(mx.array(exact.astype(np.float32)).astype(mx.bfloat16).view(mx.uint16), np.int64)
        assert got[name].dtype == mx.bfloat16
        off = np.abs(np.array(got[name].view(mx.uint16), np.int64) - wanted)
        steps, total = steps + int(off.sum()), total + off.size
    assert steps <= total // 1000


def test_the_folder_loads_and_answers_as_the_adapter_beside_the_model(tmp_path: Path) -> None:
    known = reference("qwen3")
    base = write(known.checkpoint(), tmp_path / "base")
    adapter, none = (write_peft(tmp_path / n, drawn_pairs(known.checkpoint(), s)) for n, s in (("one", 1), ("two", 2)))
    fused(base, adapter, tmp_path / "out")
    both, beside, other = (
        outputs(base, adapter, known),
        outputs(tmp_path / "out", none, known),
        outputs(base, none, known),
    )
    assert both.shape == beside.shape == other.shape
    plain = plain_outputs(tmp_path / "out", known.prompt)
    assert np.abs(plain - both).max() <= 3e-5 * np.abs(both).max()
    assert np.abs(plain - other).max() > 0.1 * np.abs(other).max()


def test_a_quantized_matrix_is_quantized_anew_in_its_layout(tmp_path: Path) -> None:
    checkpoint = reference("llama").checkpoint()
    pairs = {key: pair for key, pair in drawn_pairs(checkpoint).items() if "q_proj" in key or "down_proj" in key}
    base = write(checkpoint, tmp_path / "base")
    convert_folder(open_checkpoint(base), tmp_path / "small", wanted=everywhere(layout(8, 32, "affine")))
    adapter = write_peft(tmp_path / "one", pairs)
    got, before = fused(tmp_path / "small", adapter, tmp_path / "out"), loaded(tmp_path / "small")
    told = [json.loads((tmp_path / n / "config.json").read_text())["quantization"] for n in ("small", "out")]
    assert told[0] == told[1]
    for name, pair in pairs.items():
        module = name.removesuffix(".weight")
        old, new = (
            mx.dequantize(
                *(found[f"{module}.{part}"] for part in ("weight", "scales", "biases")), group_size=32, bits=8
            )
            for found in (before, got)
        )
        wanted = np.array(old, np.float64) + SCALE * pair.b.astype(np.float64) @ pair.a
        step = np.array(got[f"{module}.scales"]).max()
        assert np.abs(np.array(new) - wanted).max() <= step
    untouched = [name for name in got if "q_proj" not in name and "down_proj" not in name]
    assert len(untouched) > 10
    assert all(mx.array_equal(got[name], before[name]) for name in untouched)


def test_a_gguf_file_takes_both_kinds(tmp_path: Path) -> None:
    known = reference("llama")
    halves = {key: value.astype(np.float16).astype(np.float32) for key, value in known.checkpoint().weights.items()}
    checkpoint = replace(known.checkpoint(), weights=halves)
    to_gguf(open_checkpoint(write(checkpoint, tmp_path / "base")), tmp_path / "base.gguf", "F16")
    pairs = {key: pair for key, pair in drawn_pairs(checkpoint).items() if "down_proj" in key}
    base = open_checkpoint(tmp_path / "base.gguf")
    got, also = (
        fused_with(base, adapter)(source(base)[0], None, anew=False)
        for adapter in (write_gguf(tmp_path), write_peft(tmp_path / "one", pairs))
    )
    assert got.keys() == also.keys()
    drawn = {key: pair for key, pair in drawn_pairs(known.checkpoint()).items() if "down_proj" in key}
    for found, used in ((got, drawn), (also, pairs)):
        for key, pair in used.items():
            wanted = halves[key].astype(np.float64) + SCALE * pair.b.astype(np.float64) @ pair.a
            weight = found[key]
            assert isinstance(weight, mx.array)
            np.testing.assert_allclose(np.array(weight.astype(mx.float32)), wanted, rtol=2e-3, atol=2e-3)


def test_a_dialect_s_adapter_is_for_files_that_have_the_same_matrices(tmp_path: Path) -> None:
    checkpoint = reference("llama").checkpoint()
    pairs = drawn_pairs(checkpoint)
    base = write(checkpoint, tmp_path / "base")
    assert_close(
        fused(base, write_mlx(tmp_path / "mlx", pairs, SCALE), tmp_path / "a"),
        fused(base, write_peft(tmp_path / "peft", pairs), tmp_path / "b"),
    )
    experts = reference("qwen3_moe").checkpoint()
    layer = next(name for name in experts.weights if "experts.0.up_proj" in name).split(".experts")[0]
    width, inputs = experts.weights[f"{layer}.experts.0.up_proj.weight"].shape
    count = sum(f"{layer}.experts." in name and "up_proj" in name for name in experts.weights)
    random = np.random.default_rng(1)
    stack = Pair(*(random.standard_normal((count, *shape)).astype(np.float32) for shape in ((3, inputs), (width, 3))))
    adapter = write_mlx(tmp_path / "stacked", {f"{layer}.switch_mlp.up_proj.weight": stack}, SCALE)
    with pytest.raises(ModelError, match=r"switch_mlp.up_proj.*in another form: fuse it with the model in that form"):
        fused_with(open_checkpoint(write(experts, tmp_path / "experts")), adapter)
    convert_folder(open_checkpoint(tmp_path / "experts"), tmp_path / "in_mlx")
    got = fused(tmp_path / "in_mlx", adapter, tmp_path / "c")
    name = f"{layer}.switch_mlp.up_proj.weight"
    wanted = np.array(loaded(tmp_path / "in_mlx")[name], np.float64) + SCALE * stack.b @ stack.a
    np.testing.assert_allclose(np.array(got[name]), wanted, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    checkpoint = reference("llama").checkpoint()
    base = write(checkpoint, tmp_path / "base")
    adapter = write_peft(tmp_path / "one", drawn_pairs(reference("qwen3").checkpoint()))
    with pytest.raises(ModelError, match="it was trained for another model"):
        fused(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    return write_tiny(tmp_path / "tiny", 256)


def test_the_command_tells_what_quantizing_anew_costs(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = str(write_peft(tmp_path / "one", drawn_pairs(stored(tiny))))
    out = tmp_path / "plain"
    assert cli.main(["convert", str(tiny), "-o", str(out), "--adapter", adapter]) == 0
    assert "What this costs" not in capsys.readouterr().err  # nothing: it is the sum
    small, both = str(tmp_path / "small"), tmp_path / "both"
    assert cli.main(["convert", str(tiny), "-o", small, "--quantize", "8", "--group", "32"]) == 0
    capsys.readouterr()
    assert cli.main(["convert", small, "-o", str(both), "--adapter", adapter]) == 0
    assert "What this costs" in capsys.readouterr().err
    lost = loss.kept(both)
    assert lost is not None
    assert 0 < lost.kl < 0.01  # of 8 bits against the same 8 bits with the adapter beside them
    assert cli.main(["convert", small, "-o", str(tmp_path / "a.gguf"), "--adapter", adapter]) == 2
    assert "--adapter goes with --quantize" in capsys.readouterr().err
