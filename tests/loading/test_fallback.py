"""Model types without a recipe on mlx-lm's classes: real loads of tiny random checkpoints written here."""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlxrun.compat import quiet_import
from mlxrun.core import Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.families import FAMILIES, UnknownFamily
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.fallback import KNOWN_WRONG, FallbackModel, load_fallback, older_spelling
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError

NANBEIGE = {
    "model_type": "nanbeige",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rope_theta": 500.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
}
QWEN = {
    "model_type": "qwen",
    "vocab_size": 50,
    "hidden_size": 32,
    "kv_channels": 8,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "layer_norm_epsilon": 1e-5,
}
UNCHECKED = LoadOptions(unchecked=True)
CONFIGS = {config["model_type"]: config for config in (NANBEIGE, QWEN)}


def classes(config: dict[str, Any]) -> Any:
    with quiet_import():
        arch = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    return arch.Model(arch.ModelArgs.from_dict(config))


def checkpoint(folder: Path, config: dict[str, Any], written: dict[str, Any] | None = None) -> Path:
    """Random weights for mlx-lm's own class, saved as mlx-lm saves them. `written`: another spelling of the config."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    weights = {
        n: mx.array(rng.normal(0, 0.3, p.shape), mx.float32) for n, p in tree_flatten(classes(config).parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(written or config))
    return folder


def whole_pass(folder: Path, config: dict[str, Any], ids: list[int]) -> np.ndarray:
    """mlx-lm's class alone: all tokens at once, no cache."""
    model = classes(config)
    model.load_weights(str(folder / "model.safetensors"))
    return np.array(model(mx.array(ids)[None])[0])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_type_without_a_recipe_runs(config: dict[str, Any], tmp_path: Path) -> None:
    assert config["model_type"] not in FAMILIES, "choose a type that has no recipe"
    folder = checkpoint(tmp_path / "m", config)
    model = load_model(folder, options=UNCHECKED)
    assert isinstance(model, FallbackModel)
    assert (model.vocab, model.context) == (config["vocab_size"], config["max_position_embeddings"])
    assert config["model_type"] in model.notes[0]
    one, two = [3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5]
    a, b = model.new_sequence(), model.new_sequence()
    first = model(mx.array(one[:5]), [(a, 5)])
    rest = model(mx.array([*one[5:], *two]), [(a, 3), (b, 3)])  # a ragged batch
    logits = np.array(model.logits(mx.concatenate([first, rest])))
    np.testing.assert_allclose(logits[:8], whole_pass(folder, config, one), atol=1e-5)
    np.testing.assert_allclose(logits[8:], whole_pass(folder, config, two), atol=1e-5)
    assert (a.length, b.length) == (8, 3)


def test_it_is_there_before_it_is_loaded(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options = LoadOptions(unchecked=True, progress=lambda done, total: told.append((done, total)))
    model = load_model(checkpoint(tmp_path / "m", NANBEIGE), options=options)
    assert len(told) > 10
    assert told[-1] == (model.holdings.used.own,) * 2

    def stop(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_model(tmp_path / "m", options=LoadOptions(unchecked=True, progress=stop))


def test_it_draws_on_the_device_that_it_was_opened_for(tmp_path: Path) -> None:
    device = this_device(native=False)
    folder = checkpoint(tmp_path / "m", NANBEIGE)
    assert load_model(folder, options=LoadOptions(unchecked=True, device=device)).device is device


def test_the_engine_runs_it(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", NANBEIGE)
    tokens = [3, 1, 4]
    for _ in range(6):
        tokens.append(int(whole_pass(folder, NANBEIGE, tokens)[-1].argmax()))
    engine = Engine.start(lambda: load_model(folder, options=UNCHECKED))
    for _ in range(2):  # the second time what is kept cannot be reused
        events = list(engine.submit(Request((3, 1, 4), 6, Sampling(temperature=0))))
        assert [t for e in events for t in e.tokens] == tokens[3:]
    engine.close()


def test_the_newer_spelling_of_rope_is_understood(tmp_path: Path) -> None:
    newer = {k: v for k, v in NANBEIGE.items() if k != "rope_theta"}
    newer["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
    folder = checkpoint(tmp_path / "m", NANBEIGE, newer)
    model = load_model(folder, options=UNCHECKED)
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    logits = np.array(model.logits(model(mx.array(ids), [(model.new_sequence(), 8)])))
    np.testing.assert_allclose(logits, whole_pass(folder, NANBEIGE, ids), atol=1e-5)
    assert np.abs(logits - whole_pass(folder, NANBEIGE | {"rope_theta": 10000.0}, ids)).max() > 1e-3  # it does matter


def test_older_spelling() -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}
    assert older_spelling({"rope_parameters": scaled, "a": 1}) == {
        "rope_theta": 5.0,
        "rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2.0},
    }
    assert older_spelling({"text_config": {"rope_parameters": {"rope_theta": 5.0}, "b": 2}}) == {
        "text_config": {"rope_parameters": {"rope_theta": 5.0}, "b": 2, "rope_theta": 5.0, "rope_scaling": None}
    }
    assert older_spelling({"rope_theta": 5.0}) == {}


MISSING = object()


def test_a_class_that_nobody_has_checked_runs_only_where_a_person_says_so(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", QWEN)
    said = r"'qwen' has no recipe.* nobody has checked here; --unchecked runs it"
    with pytest.raises(ModelError, match=said) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    model = load_model(folder, options=UNCHECKED)
    assert "nobody has checked its answers" in model.notes[0]


def test_what_is_known_to_be_wrong_does_not_run_whatever_a_person_says(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", QWEN)
    for family in KNOWN_WRONG:
        with pytest.raises(ModelError, match="has a class for it that is wrong in"):
            load_fallback(folder, QWEN | {"model_type": family}, UnknownFamily("No."), unchecked=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "no_such_type"}, "mlx-lm does not run it either"),
        ({"model_type": "cache"}, "mlx-lm does not run it either"),
        ({"model_type": "jamba"}, "wrong in the weights of chosen experts"),
        ({"model_type": "olmo"}, "ends the whole program"),
        ({"n_group": 8, "topk_group": 4}, "8 groups"),
        ({"vocab_size": None}, "vocab_size"),
        ({"rms_norm_eps": MISSING}, "config.json lacks rms_norm_eps, which its class for nanbeige needs"),
        ({"num_attention_heads": MISSING, "rms_norm_eps": MISSING}, "lacks num_attention_heads, rms_norm_eps, which"),
        ({"hidden_size": "wide"}, r"its class for nanbeige fails on this checkpoint \(TypeError"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors that its class for nanbeige needs: model.layers.2.*, \.\.\.\.$"),
        ({"num_hidden_layers": 1}, "holds 9 tensors that its class for nanbeige has no place for: model.layers.1"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "this config has several"),
    ],
)
def test_what_mlx_lm_cannot_or_must_not_run(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = {key: value for key, value in (NANBEIGE | changes).items() if value is not MISSING}
    folder = checkpoint(tmp_path / "m", NANBEIGE, config)
    with pytest.raises(ModelError, match=said) as caught:
        load_fallback(folder, config, UnknownFamily("There is no recipe."), unchecked=True)
    assert "\n" not in str(caught.value)


def test_a_class_that_ends_the_program_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlx_lm.utils

    monkeypatch.setattr(mlx_lm.utils, "load_model", lambda *_, **__: sys.exit(1))
    folder = checkpoint(tmp_path / "m", NANBEIGE)
    with pytest.raises(ModelError, match="mlx-lm does not run it either"):
        load_fallback(folder, NANBEIGE, UnknownFamily("There is no recipe."), unchecked=True)


def test_the_limit_of_open_files_stays(tmp_path: Path) -> None:
    """In a process of its own: the import happens once a process."""
    folder = checkpoint(tmp_path / "m", NANBEIGE)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000))\n"
        "from mlxrun.loading import LoadOptions, load_model\n"
        f"load_model({str(folder)!r}, options=LoadOptions(unchecked=True))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < 5000:
        pytest.skip(f"the hard limit of open files here is {hard}; the test needs 5000")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(5000, 5000)"


def test_recipes_come_first() -> None:
    assert not set(CONFIGS) & set(FAMILIES)
