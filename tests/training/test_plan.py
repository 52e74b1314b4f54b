"""The plan of memory, the command, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.cli import main
from mlxrun.loading.open import open_model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.training.config import config_of, read_config
from mlxrun.training.plan import plan_training, refuse_what_does_not_fit
from mlxrun.training.state import load_state
from mlxrun.training.train import Prepared, Training, prepare
from tests.golden.checkpoint import reference, write

from .made import colours, said, tiny, write_rows


def prepared(folder: Path, base: Path, **keys: object) -> Prepared:
    rows = write_rows(folder / "rows.jsonl", [said("a" * 60, "b" * 60) for _ in range(8)])
    config = config_of({"model": str(base), "data": str(rows), "out": str(folder / "out"), **keys})
    return prepare(open_model(base), config)


def test_the_plan_is_what_is_held(tmp_path: Path) -> None:
    known = prepared(tmp_path, tiny(tmp_path), rank=4, batch=4, length=200)
    plan = plan_training(known)
    training = Training(known)
    assert plan.numbers == sum(array.size for array in training.trained.values())
    assert (plan.matrices, plan.changeable) == (14, 14)
    places = training.pairs.places.values()
    held = [training.decoder.embed.weight, training.decoder.head.weight, *(place.weight for place in places)]
    if this_device().native:
        assert plan.turned == pytest.approx(sum(weight.back.nbytes for weight in held), rel=0.1)
        assert plan.frozen == pytest.approx(sum(weight.forward.nbytes for weight in held), rel=0.1)


def test_activations_are_an_upper_estimate_and_no_wild_one(tmp_path: Path) -> None:
    known = prepared(tmp_path, tiny(tmp_path), rank=4, batch=8, length=200)
    plan, training = plan_training(known), Training(known)
    mx.eval(training.trained)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    training.gradients([list(known.data.examples)])
    taken = mx.get_peak_memory() - before
    assert 0.2 * (plan.activations + plan.loss) <= taken <= plan.activations + plan.loss


def test_what_does_not_fit_is_refused_with_what_would(tmp_path: Path) -> None:
    known = prepared(tmp_path, tiny(tmp_path), batch=8, length=200)
    plan = plan_training(known)
    fixed = plan.frozen + plan.turned + plan.trained
    refuse_what_does_not_fit(known, plan)
    for free, told in (
        (plan.total, r"batch: \d would fit, with accumulate"),
        (fixed * 1.2, r"batch: 1 and length: \d+ would fit"),
        (fixed, "the model and what is trained alone take"),
    ):
        with pytest.raises(ModelError, match=told):
            refuse_what_does_not_fit(known, plan_training(known, int(free)))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"targets": ["q_porj"]}, "no matrix that can be trained is called 'q_porj'; did you mean q_proj"),
        ({"targets": ["lm_head"]}, "no matrix that can be trained is called 'lm_head'; there are down_proj"),
        ({"length": 5000}, "length is 5000, and this model reads 256 tokens at most"),
    ],
)
def test_what_does_not_suit_the_model(keys: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=told):
        plan_training(prepared(tmp_path, tiny(tmp_path), **{"length": 200, **keys}))


def test_an_encoder_is_not_trained(tmp_path: Path) -> None:
    base = write(reference("bert").checkpoint(), tmp_path / "base")
    with pytest.raises(ModelError, match="writes no text by itself"):
        prepared(tmp_path, base, length=20)


def configured(folder: Path, **keys: object) -> Path:
    write_rows(folder / "rows.jsonl", [*colours(), *colours(), *colours(), *colours(), *colours(), "{"])
    told = {"model": str(tiny(folder)), "data": "rows.jsonl", "out": "out", "length": 64, "steps": 2, **keys}
    file = folder / "train.yaml"
    file.write_text(json.dumps(told), encoding="utf-8")  # which is YAML too
    return file


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path)
    assert main(["train", str(file), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "25 rows, " in told
    assert "1 rows cannot be used: rows.jsonl:26: it is no JSON." in told
    assert "beside 14 of 14 matrices" in told
    assert not (tmp_path / "out").exists()
    assert main(["train", str(file)]) == 0
    assert "step 2/2  loss " in capsys.readouterr().out
    assert main(["train", str(file)]) == 2
    assert "is there already: --resume" in capsys.readouterr().err
    assert main(["train", str(file), "--resume"]) == 0
    assert "Goes on after step 2 of 2." in capsys.readouterr().out
    assert main(["train", str(configured(tmp_path, rnak=3))]) == 2
    assert "did you mean rank" in capsys.readouterr().err


def test_killed_in_the_middle_of_a_step_it_goes_on(tmp_path: Path) -> None:
    """As a process: what is on the disk is whole at any time."""
    file = configured(tmp_path, steps=400, save=1)
    with subprocess.Popen(
        [sys.executable, "-m", "mlxrun", "train", str(file)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("step 4/"):
                run.kill()
    assert run.returncode < 0
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert len([line for line in log if '"stepped"' in line]) >= 4
    left = [path.name for path in (tmp_path / "out").iterdir() if "making" in path.name]
    assert len(left) <= 1
    known = prepare(open_model(tmp_path / "base"), read_config(file))
    assert 3 <= load_state(tmp_path / "out", known.made_of).step < 400
