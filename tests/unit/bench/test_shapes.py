"""What `bench/families.py` measures: random blocks are sane numbers, every shape has a writer, and the floor knows how
far back each layer looks."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest

BENCH = Path(__file__).parents[3] / "bench"


def bench(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    return importlib.import_module(name)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0", "Q4_K", "Q6_K"])
def test_random_blocks_keep_the_size_of_what_is_multiplied(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gguf.GGMLQuantizationType[kind]
    rows, form = bench("shapes.blocks", monkeypatch).random_rows(np.random.default_rng(1), (64, 1024), asked)
    values = gguf.quants.dequantize(rows, form)
    assert form == asked
    assert values.shape == (64, 1024)
    assert np.isfinite(values).all()
    assert abs(values.std() * 32 - 1) < 0.1  # a product with 1024 values of size 1 has size 1
    assert abs(values.mean()) < 0.15 / 32  # codes are not even about zero: -8 to 7


def test_rows_that_no_256_divides_are_stored_as_the_quantizer_would(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = bench("shapes.blocks", monkeypatch)
    rows, form = blocks.random_rows(np.random.default_rng(1), (2, 96), gguf.GGMLQuantizationType.Q6_K)
    assert (form, rows.shape) == (gguf.GGMLQuantizationType.Q8_0, (2, 102))


def looked(monkeypatch: pytest.MonkeyPatch, arch: str, **told: Any) -> list[tuple[int, float]]:
    floor = bench("peers.floor", monkeypatch)
    return [
        (layer.bytes, layer.window)
        for layer in floor.looked(arch, lambda key, default=0: told.get(key.replace(".", "_"), default))
    ]


def test_the_floor_reads_windows_states_and_latents_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {"attention_head_count_kv": 2, "attention_key_length": 16}
    near, far = (2 * 2 * 16 * 2, 8), (2 * 2 * 16 * 2, math.inf)
    assert looked(monkeypatch, "llama", block_count=2, **heads) == [far, far]
    assert looked(monkeypatch, "gpt-oss", block_count=3, attention_sliding_window=8, **heads) == [near, far, near]
    hybrid = {**heads, "attention_head_count_kv": [0, 2, 0]}
    assert looked(monkeypatch, "jamba", block_count=3, **hybrid) == [far]
    assert looked(monkeypatch, "qwen3next", block_count=4, full_attention_interval=4, ssm_state_size=8, **heads) == [
        far
    ]
    latent = looked(monkeypatch, "deepseek2", block_count=1, attention_key_length=72, attention_kv_lora_rank=64)
    assert latent == [(144, math.inf)]


def test_the_table_has_a_row_for_each_shape_and_form(monkeypatch: pytest.MonkeyPatch) -> None:
    families = bench("families", monkeypatch)
    assert len(families.SHAPES) >= 14
    row = {"model": "llama", "form": "Q4_0", "ours": 20.0, "llama_ratio": 1.25, "floor_share": 0.7, "memory": 1.1}
    found = [{**row, "measure": measure.name} for measure in families.MEASURES]
    found[1] = {"model": "llama", "form": "Q4_0", "measure": found[1]["measure"], "died": {"llama.cpp": "exit code 1"}}
    line = families.table(found)[2]
    assert line.startswith("| llama | Q4_0 | 20.0 (1.25x) | llama.cpp died: exit code 1 | 20.0 (1.25x) |")
    assert line.endswith("| 70% | 1.10 |")
