"""The resolved architecture in words, in JSON and in sizes."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxrun import cli
from mlxrun.cli import describe, show, sizes
from mlxrun.families import Recipe, resolve
from mlxrun.loading import open as open_module
from mlxrun.ops.device import a_mac
from mlxrun.ops.native import native
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.weights import mapped
from mlxrun.weights.adopted import Adoption
from tests.adopting import FakeMetal, write_sharded
from tests.golden.cases import CASES
from tests.golden.checkpoint import reference

WIDE = 1000


def recipe(name: str) -> Recipe:
    return resolve(reference(name).config)


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_family_can_be_told(name: str) -> None:
    found = recipe(name)
    lines = show.text(found, WIDE)
    assert lines[0].startswith(f"{found.decoder.family}: {len(found.decoder.layers)} layer")
    told = [places for places, _ in describe.kinds(found.decoder)]
    assert sorted(index for places in told for index in places) == list(range(len(found.decoder.layers)))
    assert not [line for line in lines if "None" in line or "  · " in line or line.endswith(" · ")]
    spec = json.loads(json.dumps(show.plain(found.decoder), allow_nan=False))
    assert len(spec["layers"]) == len(found.decoder.layers)


GEMMA3: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 4096,
    "query_pre_attn_scalar": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}


def test_one_can_read_why_layer_5_is_global_and_layer_6_is_not() -> None:
    lines = show.text(resolve(GEMMA3), WIDE)
    local, alone = lines.index("layers 0-4, 6-7"), lines.index("layer 5")
    assert "window of 512 tokens · rope base 10,000 on 8 dims" in lines[local + 1]
    assert "global: every earlier token · rope base 1,000,000 on 8 dims" in lines[alone + 1]
    differs = lines.index("where layer 5 differs from layer 0")
    assert lines[differs + 1 :] == [
        "  global: every earlier token; rope base 1,000,000 on 8 dims"
        " — instead of: window of 512 tokens; rope base 10,000 on 8 dims"
    ]


def test_a_narrow_terminal_wraps_beside_the_label() -> None:
    lines = show.text(resolve(GEMMA3), 70)
    assert max(map(len, lines)) <= 70
    first = lines.index("layers 0-4, 6-7") + 1
    assert lines[first].startswith("  attention  window")
    assert lines[first + 1].startswith(" " * 13 + "4 heads of 8")


def test_ranges() -> None:
    assert describe.ranges([0, 1, 2, 4, 6, 7]) == "0-2, 4, 6-7"
    assert describe.ranges([3]) == "3"


def test_json_has_the_whole_spec() -> None:
    spec = show.plain(resolve(GEMMA3).decoder)
    assert (spec["type"], spec["family"], spec["layers"][5]["mixer"]["window"]) == ("Decoder", "gemma3_text", None)
    assert spec["layers"][6]["mixer"]["window"] == 512
    assert spec["layers"][0]["ffn"] == {
        "type": "Dense",
        "hidden": 48,
        "act": "gelu_tanh",
        "gated": True,
        "bias": False,
        "out_bias": None,
        "sparsity": 0.0,
        "down_norm": None,
        "bounded": False,
    }
    assert show.plain((1.0, math.inf, -math.inf)) == [1.0, "inf", "-inf"]


def test_sizes_by_part_and_format() -> None:
    packed = QuantizedWeight(mx.zeros((4, 8), mx.uint32), mx.zeros((4, 2)), mx.zeros((4, 2)), "affine", 4, 32)
    weights = {
        "embed.weight": mx.zeros((10, 4), mx.float16),
        "norm.weight": mx.zeros((4,)),
        "layers.0.mixer.q.weight": packed,
        "layers.0.mixer_norm.weight": mx.zeros((4,)),
        "layers.0.ffn.up.weight": mx.zeros((8, 4)),
        "head.weight": mx.zeros((10, 4)),
    }
    parts = sizes.by_part(resolve(GEMMA3).decoder, weights)
    assert {name: (s.parameters, s.bytes) for name, s in parts.items()} == {
        "attention": (4 * 64, 4 * 32 + 2 * 32),
        "head": (40, 160),
        "feed-forward": (32, 128),
        "embedding": (40, 80),
        "norms": (8, 32),
    }
    formats = sizes.by_format(weights)
    assert {name: s.parameters for name, s in formats.items()} == {
        "4 bits in groups of 32": 256,
        "float32": 80,
        "float16": 40,
    }


def test_of_the_experts_only_the_chosen_count() -> None:
    found = recipe("mixtral")
    layer = found.decoder.layers[0].ffn
    weights = {"layers.0.ffn.experts.up.weight": mx.zeros((layer.experts, 4, 4)), "embed.weight": mx.zeros((5, 2))}
    parts = sizes.by_part(found.decoder, weights)
    assert sizes.active_parameters(found.decoder, parts) == 10 + 16 * layer.router.top_k


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (999, "999"), (134_515_008, "135 M"), (30_500_000_000, "30.5 B")]
)
def test_counts(number: int, said: str) -> None:
    assert show.count(number) == said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llama = reference("llama").checkpoint()
    save_file(
        {n: np.ascontiguousarray(w) for n, w in llama.weights.items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    (tmp_path / "config.json").write_text(json.dumps(llama.config))
    assert cli.main(["show", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "llama: " in out
    assert "parameters" in out
    assert cli.main(["show", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spec"]["vocab"] == llama.config["vocab_size"]
    assert sum(part["parameters"] for part in told["parts"].values()) == sum(w.size for w in llama.weights.values())
    (tmp_path / "config.json").write_text(json.dumps(llama.config | {"surprise": 7}))
    assert cli.main(["show", str(tmp_path)]) == 2
    assert "surprise" in capsys.readouterr().err
    assert cli.main(["show", str(tmp_path), "--waive", "surprise"]) == 0


def test_files_are_named_with_what_is_mapped_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sharded(tmp_path / "model")
    metal = FakeMetal()
    monkeypatch.setattr(mapped, "adoption_here", lambda: metal.adoption)
    monkeypatch.setattr(open_module, "this_device", a_mac)
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    assert cli.main(["show", str(folder), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert len(files) == 8
    assert 0.95 * stored < sum(file["mapped"] for file in files) < stored
    assert all(0 < file["read"] < 65536 and file["reason"] is None for file in files)
    assert metal.taken
    assert cli.main(["show", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "files on this machine: used as they lie, wherever a GPU computes with that" in told
    assert re.search(r"\n  model-00008-of-00008\.safetensors  mapped [23]\.\d MB, read 0\.0 MB\n", told)


def test_a_file_that_is_read_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: np.ndarray) -> mx.array:
        raise ValueError("[convert] Cannot import a CPU array without a copy.")

    monkeypatch.setattr(mapped, "adoption_here", lambda: Adoption(refuse))
    assert cli.main(["show", str(write_sharded(tmp_path / "model"))]) == 0
    told = capsys.readouterr().out
    assert "MB, because MLX takes no mapped memory here: [convert] Cannot import a CPU array" in told


@pytest.mark.skipif(native is None, reason="the native library is not built, and nothing else maps here")
def test_few_descriptors_are_enough_to_map_a_checkpoint_of_many_tensors(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path / "model")
    command = f'ulimit -n 64; exec "{sys.executable}" -m mlxrun show --json "$0"'
    done = subprocess.run(["bash", "-c", command, folder], capture_output=True, text=True, timeout=120, check=True)
    files = json.loads(done.stdout)["files"]
    assert [file["reason"] for file in files] == [None] * 8
    assert sum(file["read"] for file in files) == 0 < sum(file["mapped"] for file in files)
