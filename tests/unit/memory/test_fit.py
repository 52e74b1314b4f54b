"""mlxrun fit, as a person and as a program meet it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlxrun import cli
from mlxrun.cli import fit_picture
from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.open import recipe_of
from mlxrun.memory.need import Need
from mlxrun.memory.plan import advise, plan
from mlxrun.memory.profiles import profile
from mlxrun.ops.device import a_mac
from mlxrun.weights import open_checkpoint
from tests.unit.memory.outlines import QWEN3_4B, QWEN3_30B_A3B, write


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("small") / "qwen3", QWEN3_4B, 4)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("large") / "qwen3-moe", QWEN3_30B_A3B, 4)


@pytest.fixture(autouse=True)
def nothing_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def fit(*words: object) -> int:
    return cli.main(["fit", *map(str, words)])


def test_it_fits(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(small, "--on", "M4 Pro 24GB") == 0
    said = capsys.readouterr().out
    for words in ("It fits", "12.5 GiB are left", "2.1 GiB", "up to 98,816 tokens", "not a measurement", "16 GiB for"):
        assert words in said
    assert "\x1b" not in said


def test_the_macs_that_can_be_planned_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--on", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len({line.split("  ")[0] for line in lines}) > 40
    for line in lines:
        assert profile(line.split("  ")[0]).name == line.split("  ")[0]
    assert cli.main(["fit"]) == 2
    assert "fit --on list" in capsys.readouterr().err


@pytest.mark.parametrize(("config", "bits"), [(QWEN3_4B, 4), (QWEN3_4B, None), (QWEN3_30B_A3B, 4)])
@pytest.mark.parametrize("where", [[], ["--on", "M4 Max 128GB"]])
def test_a_config_alone_will_do(
    config: dict[str, object], bits: int | None, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with the headers of all files, but for routers that have more bits than the config's usual."""
    whole, alone = write(tmp_path / "whole", config, bits), tmp_path / "alone"
    alone.mkdir()
    (alone / "config.json").write_bytes((whole / "config.json").read_bytes())
    told = []
    for place in (whole, alone):
        fit(place, "--json", *where)
        out, err = capsys.readouterr()
        assert ("a config.json and no weights" in err) is (place is alone)
        told.append(json.loads(out))
    assert told[1]["weights"]["bytes"] == pytest.approx(told[0]["weights"]["bytes"], rel=0.002)
    assert told[1]["cache"] == told[0]["cache"]
    assert told[1]["fits"] == told[0]["fits"]
    (alone / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    assert fit(alone) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["run", str(alone), "hi", "--raw"]) == 2  # to run, it takes weights
    assert "has no model.safetensors" in capsys.readouterr().err


def test_it_does_not(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(large, "--on", "m4 pro 24gb", "--context", "100000") == 1
    said = capsys.readouterr().out
    for words in ("It does not fit", "missing", "3-bit weights", "M3 Pro 36GB"):
        assert words in said


def test_larger_machines_take_longer_contexts(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contexts = []
    for name in ("M4 32GB", "M4 Pro 48GB", "M4 Max 128GB"):
        assert fit(large, "--on", name, "--json") == 0
        contexts.append(json.loads(capsys.readouterr().out)["advice"]["context"])
    assert contexts == sorted(contexts)
    assert contexts[-1] == 262144


def test_for_programs(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(small, "--on", "M1 8GB", "--parallel", 3, "--context", 32768, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["cache"] == {"bytes": 3 * 32768 * 147456, "a_token": 147456, "bits": 16}
    assert found["weights"]["bytes"] == 2262920192 == sum(found["weights"]["kinds"].values())
    assert found["free"] == found["machine"]["usable"] - found["total"] < 0
    assert found["fits"] is False


def test_here(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = fit(small, "--json")
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["fits"] else 1)
    assert found["machine"]["here"] is True
    assert found["machine"]["usable"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--context", 1), "from 2 to 262144"),
        (("--context", 262145), "from 2 to 262144"),
        (("--parallel", 0), "--parallel must be"),
        (("--on", "a toaster"), "There is no machine 'a toaster'"),
        (("--on", "M4 Pro 25GB"), "M4 Pro 24GB"),
    ],
)
def test_bad_wishes(small: Path, words: tuple[object, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(small, *words) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_checkpoint_that_would_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, {**QWEN3_4B, "num_hidden_layers": 2}, 4)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert fit(folder, "--on", "M4 Pro 24GB") == 2
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 72, 80, 100, 200])
@pytest.mark.parametrize("name", ["M1 8GB", "M3 Pro 18GB", "M4 Pro 24GB", "M3 Ultra 512GB"])
def test_the_picture_keeps_its_frame(large: Path, width: int, name: str) -> None:
    checkpoint = open_checkpoint(large)
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, a_mac())
    need = Need(recipe.decoder, seen.weights, seen.width, 8192)
    for wanted in (need, replace(need, context=262144), replace(need, parallel=40)):
        made = plan(wanted, profile(name))
        file = io.StringIO()
        console = Console(file=file, width=width, highlight=False)
        fit_picture.show("a\x1b[31mmodel", made, advise(wanted, profile(name)), seen, console)
        lines = file.getvalue().splitlines()
        assert {len(line) for line in lines} == {min(width, fit_picture.WIDEST)}
        assert "\x1b" not in file.getvalue()
        bar = lines[2]
        assert ("!" in bar) is (made.free < 0)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(any), st.integers(10, 120))
def test_shares_add_up(amounts: list[int], cells: int) -> None:
    shares = fit_picture.spread(amounts, cells)
    assert sum(shares) == cells
    assert all((share > 0) == (amount > 0) for share, amount in zip(shares, amounts, strict=True))
