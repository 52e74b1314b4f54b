"""What was measured, on disk; the policy from the environment."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlxrun.metal_kernels.tiles import CUTS, STANDARD

from mlxrun.ops.choose import Chooser, key, rows_class
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.settings import SettingsError, from_environment
from mlxrun.tune import begin
from mlxrun.tune.picks import Pick, TunedMachine, forms, load, save, this_machine

OURS, THEIRS = Pick("wide", ("standard", "wide")), Pick("mlx", ("standard",))
M4 = TunedMachine("Apple M4", "macOS 26.1", "0.32.4")


def test_picks_come_back_on_the_same_machine_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kernels.json"
    save(path, M4, {"a": OURS})
    save(path, M4, {"b": THEIRS, "c": Pick()})
    assert load(path, M4) == {"a": OURS, "b": THEIRS, "c": Pick()}
    assert forms(load(path, M4)) == {"a": "wide", "b": "mlx", "c": "mlx"}
    for other in (
        TunedMachine("Apple M4 Max", M4.system, M4.mlx),
        TunedMachine(M4.chip, "macOS 27.0", M4.mlx),
        TunedMachine(M4.chip, M4.system, "0.33.0"),
    ):
        assert load(path, other) == {}
        save(path, other, {"a": THEIRS})
    assert load(path, M4) == {"a": OURS, "b": THEIRS, "c": Pick()}
    assert [p.name for p in path.parent.iterdir()] == ["kernels.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"machines": 3}', '{"machines": {"Apple M4, macOS 26.1, MLX 0.32.4": [1]}}']
)
def test_a_file_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(text)
    assert load(path, M4) == {}
    save(path, M4, {"a": OURS})
    assert load(path, M4) == {"a": OURS}


def test_what_this_version_does_not_know_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    entries = {"a": True, "b": {"form": "narrow", "tried": []}, "c": {"form": "mlx", "tried": ["standard", "narrow"]}}
    path.write_text(json.dumps({"machines": {str(M4): entries}}))
    assert load(path, M4) == {"c": THEIRS}


def test_the_environment_names_the_policy() -> None:
    assert [from_environment({"MLXRUN_KERNELS": t}).kernels for t in ("", "auto", "mlx", "ours")] == [
        *("auto", "auto", "mlx", "ours")
    ]
    with pytest.raises(SettingsError, match="MLXRUN_KERNELS must be auto, mlx or ours, not 'fast'"):
        from_environment({"MLXRUN_KERNELS": "fast"})


def test_without_an_apple_gpu_nothing_is_chosen(tmp_path: Path) -> None:
    if mx.metal.is_available():
        pytest.skip("There is an Apple GPU here.")
    assert this_machine() is None
    begin(from_environment({"MLXRUN_HOME": str(tmp_path), "MLXRUN_KERNELS": "ours"}))
    assert not Chooser(policy="ours").possible()


def test_the_chooser_gives_the_cut_that_was_picked() -> None:
    picked = Chooser(picks={"a": "wide", "b": "mlx"})
    assert [picked.ours(key) for key in "abc"] == [CUTS["wide"], None, None]
    picked.policy = "ours"
    assert picked.ours("b") is STANDARD
    picked.policy = "mlx"
    assert picked.ours("a") is None


def test_keys_tell_apart_what_decides_speed() -> None:
    def weight(n: int, k: int, bits: int) -> QuantizedWeight:
        return QuantizedWeight(
            mx.zeros((n, k * bits // 32), mx.uint32), mx.zeros((n, k // 64)), None, "affine", bits, 64
        )

    one = key("matmul", 1, weight(8, 64, 4), dtype=mx.bfloat16)
    assert one == "matmul 1 8x64 affine-4-64 bfloat16"
    others = (
        key("add", 1, weight(8, 64, 4), dtype=mx.bfloat16),
        key("matmul", 2, weight(8, 64, 4), dtype=mx.bfloat16),
        key("matmul", 1, weight(8, 64, 8), dtype=mx.bfloat16),
        key("matmul", 1, weight(16, 64, 4), dtype=mx.bfloat16),
        key("matmul", 1, weight(8, 64, 4), dtype=mx.float16),
    )
    assert len({one, *others}) == 6
    assert [rows_class(n) for n in (1, 2, 3, 4, 5, 8, 9, 17, 64, 500)] == [1, 2, 3, 4, 8, 8, 16, 64, 64, 64]
