"""The script for an NVIDIA card, without one: who says that nothing was run, and the parts' own code on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bench.card import parts
from bench.card.mixture import Mixture
from mlxrun import gpu
from mlxrun.selftest.notes import Notes
from mlxrun.selftest.results import NotRun
from mlxrun.selftest.truth import weight
from tests.kernels import mslsim
from tests.kernels.mslsim.build import why_not

ROOT = Path(__file__).resolve().parents[3]


class Heard:
    def __init__(self, *, quick: bool = True, seconds: float = 1e9) -> None:
        self.lines: list[dict[str, Any]] = []
        self.notes = Notes(lambda line: self.lines.append(json.loads(line)), quick=quick, seconds=seconds)

    def number(self, name: str) -> Any:
        return next(line["number"][1] for line in self.lines if line.get("number", [None])[0] == name)


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "bench/gpu.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(gpu.usable() and not gpu.metal(), reason="there is a card here")
def test_without_a_card_a_part_is_named_as_not_run(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    done = script("--quick", "--report", str(file), "kernels")
    assert (done.returncode, done.stderr) == (0, "")
    (part,) = json.loads(file.read_text(encoding="utf-8"))["parts"]
    assert (part["name"], part["state"]) == ("kernels", "not run")
    assert part["said"].startswith("There is no NVIDIA card here: ")
    assert done.stdout.count("not run") == 1


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = script("no such part")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "there is no part no such part; there are machine, layouts, families, kernels, starter, mixture"
    )
    done = script("--report", str(tmp_path / "nowhere" / "card.json"), "machine")
    assert done.returncode == 2
    assert "cannot be written: No such file or directory; name another file" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("part", [parts.families, parts.starter])
def test_no_part_runs_without_a_card(part: Any) -> None:
    with pytest.raises(NotRun, match="There is no NVIDIA card here"):
        part(Heard().notes)


def test_layouts_are_tried_and_compared() -> None:
    heard = Heard()
    said = parts.layouts(heard.notes, need=lambda: None, shapes=((16, 128),))
    assert heard.notes.bad == []
    assert said == f"{len(parts.LAYOUTS) * 4} products, 0 of them refused, the others right"


def test_a_product_that_is_refused_is_told_and_a_wrong_one_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> mx.array:
        raise RuntimeError("[gather_qmm] No implementation\nmore")

    real = mx.quantized_matmul
    monkeypatch.setattr(mx, "gather_qmm", refuse)
    monkeypatch.setattr(mx, "quantized_matmul", lambda *given, **how: real(*given, **how) * 1.1)
    monkeypatch.setattr(parts, "LAYOUTS", [("affine", 4, 64)])
    heard = Heard()
    said = parts.layouts(heard.notes, need=lambda: None, shapes=((16, 128),))
    assert said.startswith("4 products, 2 of them refused")
    assert set(heard.number("refused").values()) == {"[gather_qmm] No implementation"}
    assert len(heard.notes.bad) == 2
    w, value = weight((4, 64), ("affine", 4, 64), mx.float16)
    assert parts.worst_of(lambda x, _: x[:, :4] * mx.nan, w, value, mx.float16) == float("inf")


def test_kernels_with_a_twin_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not():
        pytest.skip(reason)
    cases = list(parts.metal_cases.of_heads(mx.float32))
    monkeypatch.setattr(parts.metal_cases, "cases", lambda *_: iter(cases))
    heard = Heard()
    said = parts.kernels(heard.notes, need=lambda: None, make=mslsim.metal_kernel)
    assert said == f"CUDA: {len(cases)} cases, 0 kernels wrong"


def test_those_without_one_are_left_out() -> None:
    names = {case.name.split()[0] for case in parts.with_twin(parts.metal_cases.cases((("affine", 4, 64),)))}
    assert {"qmv", "project", "experts_in", "paged_attention"} <= {name.rstrip(",") for name in names}
    assert not {"qmm", "qmv_few", "qmm_experts"} & names


def test_a_mixture_is_compared_and_timed() -> None:
    heard = Heard()
    parts.mixture(heard.notes, need=lambda: None, size=Mixture(1, 4, 2, 128, 64, 256, prompt=5))
    assert heard.notes.bad == []
    assert set(heard.number("tokens_a_second")) == {"1", "4", "8", "prompt"}
