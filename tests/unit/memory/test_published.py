"""Plans against what others measured on Macs: no number here is ours.

mlx-lm's BENCHMARKS.md (mlx-lm 0.28.2, mlx 0.29.2, 64 GB M4 Max, macOS 26.1): peak memory in GB and tokens a second of
`mlx_lm.benchmark -p 2048 -g 128`, which reads its prompt in one chunk of 2048. The constants of `activations` and
`forecast` are fitted to these rows; the two of the README of vllm-mlx (M4 Max, 4 bits, short prompts) are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.open import recipe_of
from mlxrun.memory.forecast import BAND, decode_speed
from mlxrun.memory.need import Need
from mlxrun.memory.plan import plan
from mlxrun.memory.profiles import profile
from mlxrun.ops.device import a_mac
from mlxrun.weights import open_checkpoint
from tests.unit.memory.outlines import LLAMA_32_3B, QWEN3_4B, QWEN3_30B_A3B, write

M4_MAX = profile("M4 Max 64GB")
PROMPT, TOKENS = 2048, 128
MLX_LM = (  # model, bits, group, peak GB, tokens a second
    (QWEN3_4B, None, 64, 9.02, 52.47),
    (QWEN3_4B, 8, 64, 5.254, 86.907),
    (QWEN3_4B, 6, 64, 4.25, 104.68),
    (QWEN3_4B, 5, 32, 4.00, 110.29),
    (QWEN3_4B, 5, 64, 3.86, 116.39),
    (QWEN3_4B, 4, 32, 3.603, 126.00),
    (QWEN3_4B, 4, 64, 3.35, 134.52),
    (QWEN3_30B_A3B, 8, 64, 33.46, 83.16),
    (QWEN3_30B_A3B, 6, 64, 25.82, 94.14),
    (QWEN3_30B_A3B, 5, 64, 22.01, 101.00),
    (QWEN3_30B_A3B, 4, 64, 18.20, 113.33),
)
VLLM_MLX = ((LLAMA_32_3B, 205.6), (QWEN3_30B_A3B, 127.7))
SHORT = 256  # tokens; that README does not say


def need(folder: Path, config: dict[str, Any], bits: int | None, group: int) -> Need:
    checkpoint = open_checkpoint(write(folder, config, bits, group))
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, a_mac())
    assert seen.weights.total == checkpoint.bytes
    assert seen.width == 2
    return Need(recipe.decoder, seen.weights, seen.width, PROMPT + TOKENS, chunk=PROMPT)


@pytest.mark.parametrize(("config", "bits", "group", "peak", "speed"), MLX_LM)
def test_mlx_lm(
    tmp_path: Path, config: dict[str, Any], bits: int | None, group: int, peak: float, speed: float
) -> None:
    found = need(tmp_path, config, bits, group)
    assert plan(found, M4_MAX).arrays / 1e9 == pytest.approx(peak, rel=0.05)
    forecast = decode_speed(M4_MAX, found.decoder, found.weights, PROMPT + TOKENS // 2, found.width)
    assert forecast is not None
    assert forecast.likely == pytest.approx(speed, rel=0.05)  # far inside the band
    assert forecast.low < speed < forecast.high


@pytest.mark.parametrize(("config", "speed"), VLLM_MLX)
def test_vllm_mlx(tmp_path: Path, config: dict[str, Any], speed: float) -> None:
    found = need(tmp_path, config, 4, 64)
    forecast = decode_speed(M4_MAX, found.decoder, found.weights, SHORT, found.width)
    assert forecast is not None
    assert forecast.low < speed < forecast.high


def test_the_parameters_are_those_of_the_model_cards(tmp_path: Path) -> None:
    dense, mixture = need(tmp_path / "a", QWEN3_4B, 4, 64), need(tmp_path / "b", QWEN3_30B_A3B, 4, 64)
    assert (dense.weights.matrices + dense.weights.others) / 1e9 == pytest.approx(4.0, abs=0.05)
    assert (mixture.weights.matrices + mixture.weights.others) / 1e9 == pytest.approx(30.5, abs=0.05)
    active = mixture.weights.read / (4.5 / 8)
    assert active / 1e9 == pytest.approx(3.3 - 0.31, abs=0.1)  # 3.3 with the input table, of which a token reads a row


def test_the_band_by_hand(tmp_path: Path) -> None:
    found = need(tmp_path, QWEN3_4B, 4, 64)
    forecast = decode_speed(M4_MAX, found.decoder, found.weights, 1000, found.width)
    read = found.weights.total + 1000 * 36 * 2 * 8 * 128 * 2
    seconds = 1.1 * read / 546e9 + 36 * 63e-6
    assert forecast is not None
    assert forecast.likely == pytest.approx(1 / seconds)
    assert (forecast.low, forecast.high) == pytest.approx(((1 - BAND) / seconds, (1 + BAND) / seconds))
