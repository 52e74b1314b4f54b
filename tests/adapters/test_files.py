"""Adapters as they are written: PEFT, mlx-lm and GGUF say the same change; what cannot be believed is a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxrun.adapters.canonical import canonical_changes
from mlxrun.adapters.files import read_adapter_file
from mlxrun.convert.to_gguf import to_gguf
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.open import open_model
from mlxrun.ops.device import Device, this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import Reference, reference, write
from tests.golden.measure import Driver, Outputs

from .made import ALPHA, RANK, drawn_pairs, write_mlx, write_peft

KNOWN = reference("llama")


def base(folder: Path) -> Path:
    return write(KNOWN.checkpoint(), folder / "base")


def outputs(model: Path, adapter: Path, known: Reference = KNOWN, device: Device | None = None) -> Outputs:
    options = LoadOptions(device=device or this_device("exact"), adapters=(("one", adapter),))
    loaded = load_model(model, options=options)
    driver = Driver(loaded, known)
    memory = driver.sequence()
    memory.adapter = driver.model.holdings.adapters["one"]
    return driver.run([(memory, known.prompt)])[0]


def test_mlx_lm_and_peft_say_the_same(tmp_path: Path) -> None:
    pairs, model = drawn_pairs(KNOWN.checkpoint()), base(tmp_path)
    peft = outputs(model, write_peft(tmp_path / "peft", pairs))
    mlx = outputs(model, write_mlx(tmp_path / "mlx", pairs, ALPHA / RANK))
    np.testing.assert_array_equal(mlx, peft)


def test_patterns_give_ranks_and_scales_of_their_own(tmp_path: Path) -> None:
    checkpoint = KNOWN.checkpoint()
    wide = {name: pair for name, pair in drawn_pairs(checkpoint, 2, 5).items() if "o_proj" in name}
    pairs = {**drawn_pairs(checkpoint), **wide}
    patterns = {"rank_pattern": {"o_proj": 5}, "alpha_pattern": {"layers.1.self_attn.o_proj": 9}}
    folder = write_peft(tmp_path / "one", pairs, **patterns)
    opened = open_model(base(tmp_path))
    changes = canonical_changes(read_adapter_file(folder), opened.checkpoint, opened.recipe)
    scales = {name: change.scale for name, change in changes.items()}
    assert scales["layers.0.mixer.q.weight"] == pytest.approx(ALPHA / RANK)
    assert scales["layers.0.mixer.o.weight"] == pytest.approx(ALPHA / 5)
    assert scales["layers.1.mixer.o.weight"] == pytest.approx(9 / 5)


def write_gguf(folder: Path, **changed: Any) -> Path:
    """For llama.cpp's names, where queries' and keys' rows lie as it has them."""
    pairs, path = drawn_pairs(KNOWN.checkpoint()), folder / "adapter.gguf"
    told = {"general.type": "adapter", "adapter.type": "lora", **changed}
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in told.items():
        writer.add_string(key, value)
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, pair in pairs.items():
        if "down_proj" in name:
            short = f"blk.{name.split('.')[2]}.ffn_down.weight"
            writer.add_tensor(f"{short}.lora_a", pair.a)
            writer.add_tensor(f"{short}.lora_b", pair.b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_adapter_is_read(tmp_path: Path) -> None:
    file = read_adapter_file(write_gguf(tmp_path))
    from mlxrun.adapters.pairs import changes_of

    changes = changes_of(file)
    wanted = drawn_pairs(KNOWN.checkpoint())["model.layers.1.mlp.down_proj.weight"]
    change = changes["blk.1.ffn_down.weight"]
    assert change.scale == pytest.approx(ALPHA / RANK)
    np.testing.assert_allclose(np.array(change.whole()), ALPHA / RANK * wanted.b @ wanted.a, rtol=1e-4, atol=1e-5)


def test_a_gguf_adapter_is_for_a_gguf_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter\.gguf is for a GGUF model"):
        outputs(base(tmp_path), write_gguf(tmp_path))


def test_a_gguf_model_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a model and no adapter"):
        read_adapter_file(write_gguf(tmp_path, **{"general.type": "model"}))


# ---- what is wrong ------------------------------------------------------------------------------

Harm = Callable[[Path], None]


def config(**changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        file = folder / "adapter_config.json"
        told = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({key: value for key, value in told.items() if value != "gone"}))

    return harm


def tensors(change: Callable[[dict[str, Any]], None]) -> Harm:
    def harm(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        found = load_file(file)
        change(found)
        save_file(found, file)

    return harm


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


EMBEDDING = "base_model.model.model.embed_tokens.lora_embedding_"


def as_if_of(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        for part in "AB":
            found[f"{Q.replace(old, new)}{part}.weight"] = found[f"{Q}{part}.weight"]

    return change


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def only_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def whole_head(folder: Path) -> None:
    config(modules_to_save=["lm_head"])(folder)
    tensors(lambda t: t.update({"base_model.model.lm_head.weight": np.zeros((48, 64), np.float32)}))(folder)


def linked_out(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.rename(folder.parent / "elsewhere.safetensors")
    file.symlink_to(folder.parent / "elsewhere.safetensors")


WRONG: dict[str, tuple[Harm, str]] = {
    "another method": (config(peft_type="IA3"), "of the type 'IA3' is not read"),
    "a key that nobody knows": (config(use_new_trick=True), "'use_new_trick' would change the answers"),
    "invocation tokens": (config(alora_invocation_tokens=[1, 2]), "alora_invocation_tokens"),
    "replicated layers": (config(layer_replication=[[0, 2]]), "layer_replication"),
    "a base that was changed": (config(init_lora_weights="pissa_niter_16"), "changes the model's own weights"),
    "no rank": (config(r="gone"), "r must be a number above 0, not None"),
    "alpha that is a word": (config(lora_alpha="much"), "lora_alpha must be a number above 0"),
    "alpha that is none": (config(lora_alpha=float("nan")), "lora_alpha must be a number above 0|not a JSON number"),
    "another rank": (config(r=4), "has rank 4; its tensors have 3"),
    "a pattern of another kind": (config(rank_pattern={".*(q|k)": 3}), "is more than the end of a name"),
    "DoRA without magnitudes": (config(use_dora=True), "lacks its magnitude"),
    "a half": (tensors(lambda t: t.pop(f"{Q}B.weight")), "lacks its b"),
    "another width": (
        tensors(lambda t: t.update({f"{Q}A.weight": np.zeros((3, 7), np.float32)})),
        "was trained for another model",
    ),
    "shapes apart": (
        tensors(lambda t: t.update({f"{Q}B.weight": np.zeros((64, 2), np.float32)})),
        "do not belong together",
    ),
    "a layer that is not there": (
        tensors(as_if_of("layers.0", "layers.9")),
        r"layers\.9\.mixer\.q\.weight.*cannot change",
    ),
    "a module that is not there": (
        tensors(as_if_of("q_proj", "z_proj")),
        "does not know",
    ),
    "a module of its own": (
        tensors(lambda t: t.update({"base_model.model.lm_head.weight": np.zeros((3, 3), np.float32)})),
        "belongs to nothing that adapter_config.json tells of",
    ),
    "a module that was trained whole": (whole_head, r"changes 'lm_head\.weight', which cannot change while"),
    "an embedding": (
        tensors(
            lambda t: t.update(
                {f"{EMBEDDING}A": np.zeros((3, 48), np.float32), f"{EMBEDDING}B": np.zeros((64, 3), np.float32)}
            )
        ),
        r"changes 'embed\.weight', which cannot change while",
    ),
    "no floats": (
        tensors(lambda t: t.update({f"{Q}A.weight": np.zeros((3, 64), np.int32)})),
        "is not of floats",
    ),
    "nothing": (tensors(lambda t: t.clear()), "changes nothing"),
    "cut off": (cut, "part of it is missing"),
    "a pickle": (only_pickle, "adapter_model.bin, which is not read"),
    "a link that leads out": (linked_out, "leads out"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has neither"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_a_sentence(what: str, tmp_path: Path) -> None:
    harm, told = WRONG[what]
    model, folder = base(tmp_path), write_peft(tmp_path / "one", drawn_pairs(KNOWN.checkpoint()))
    harm(folder)
    with pytest.raises(ModelError, match=told) as error:
        outputs(model, folder)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no adapter at"):
        read_adapter_file(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="it is a model"):
        read_adapter_file(base(tmp_path))


# ---- a GGUF model -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "phi3"])
def test_a_gguf_model_takes_what_was_trained_on_its_checkpoint(name: str, tmp_path: Path) -> None:
    """Rows of queries and keys lie otherwise there (llama), and matrices are cut up (phi3)."""
    known = reference(name)
    drawn = known.checkpoint()
    halves = {key: value.astype(np.float16).astype(np.float32) for key, value in drawn.weights.items()}
    place = write(replace(drawn, weights=halves), tmp_path / "base")
    to_gguf(open_checkpoint(place), tmp_path / "base.gguf", "F16")
    adapter = write_peft(tmp_path / "one", drawn_pairs(drawn))
    there, here = (outputs(model, adapter, known) for model in (place, tmp_path / "base.gguf"))
    assert np.abs(there - here).max() <= 3e-5 * np.abs(there).max()
