"""The file of `mlxrun train`: what is wrong with it is one sentence that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.spec import ModelError
from mlxrun.training.config import TrainConfig, config_of, read_config

LEAST = {"model": "m", "data": "d.jsonl", "out": "o"}


def read(folder: Path, text: str) -> TrainConfig:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file)


def test_places_are_seen_from_the_files_folder(tmp_path: Path) -> None:
    found = read(tmp_path, "model: smollm2\ndata: [a.jsonl, /b.jsonl]\nout: made\nrate: 1e-3\nclip: null\n")
    assert found.model == "smollm2"
    assert found.data == (str(tmp_path / "a.jsonl"), "/b.jsonl")
    assert found.out == str(tmp_path / "made")
    assert found.rate == 1e-3  # which YAML takes for a text
    assert found.clip == 1.0  # nothing said: as usual


def test_axolotls_names() -> None:
    told = {
        "base_model": "m",
        "datasets": [{"path": "d.jsonl", "type": "chat_template"}],
        "output_dir": "o",
        "adapter": "qlora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0,
        "lora_target_modules": ["q_proj"],
        "sequence_len": 99,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 3,
        "num_epochs": 2,
        "learning_rate": 1e-5,
        "lr_scheduler": "linear",
        "optimizer": "adamw_torch",
        "train_on_inputs": False,
        "load_in_4bit": True,
    }
    ours = {"rank": 4, "alpha": 8, "targets": ["q_proj"], "length": 99, "batch": 2, "accumulate": 3, "epochs": 2}
    assert config_of(told) == config_of({**LEAST, **ours, "rate": 1e-5, "schedule": "linear", "loss": "assistant"})
    assert config_of({**LEAST, "adapter": "lora", "peft_use_dora": True}).method == "dora"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"rnak": 4}, "there is no key 'rnak'; did you mean rank"),
        ({"zzz": 4}, "there is no key 'zzz'; known are accumulate"),
        ({"rank": 0}, "rank must be a whole number from 1 to 4096, not 0"),
        ({"rank": True}, "rank must be a whole number"),
        ({"rate": "fast"}, "rate must be a number above 0 to 10, not 'fast'"),
        ({"rate": float("nan")}, "rate must be a number"),
        ({"method": "full"}, "all weights of a model are not trained here yet"),
        ({"method": "ia3"}, "method must be one of lora, dora, not 'ia3'"),
        ({"packing": 1}, "packing must be true or false"),
        ({"targets": [3]}, "targets must be a text, not 3"),
        ({"model": ""}, "does not say model"),
        ({"steps": 3, "epochs": 1}, "says steps and epochs"),
        ({"objective": "dpo", "packing": True}, "packing is for the objective sft"),
        ({"rank": 4, "lora_r": 8}, "says rank twice, once as lora_r"),
        ({"lora_dropout": 0.1}, "lora_dropout 0.1 is not done here; leave it out"),
        ({"optimizer": "lion"}, "optimizer 'lion' is not done here"),
        ({"datasets": [{"path": "x", "type": "alpaca"}], "data": None}, "entries with a path to a JSONL file"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, object], told: str) -> None:
    config = {key: value for key, value in {**LEAST, **more}.items() if key != "data" or value is not None}
    with pytest.raises(ModelError) as error:
        config_of(config, "c.yaml")
    assert told in str(error.value)
    assert str(error.value).startswith("c.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "must be a list of keys and values"),
        ("", "must be a list of keys and values"),
        ("model: [\n", "is no YAML that can be read in line"),
        ("rank: 1\nrank: 2\n", "rank stands there twice"),
        ("a: &a [x]\nb: *a\n", "aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "is no YAML that can be read"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("{" * 3000, "nested too deeply"),
        ("a: \x00\n", "is no YAML that can be read"),
    ],
)
def test_files_that_are_no_configuration(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        read(tmp_path, text)
    assert told in str(error.value)


def test_a_file_that_is_too_large_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not believable"):
        read(tmp_path, "# " + "x" * (2 << 20))
    with pytest.raises(ModelError, match="is not in"):
        read_config(tmp_path / "none.yaml")
