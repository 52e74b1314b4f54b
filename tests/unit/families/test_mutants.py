"""Configs and metadata with a wrong value somewhere: a recipe or one sentence, never another exception."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mlxrun.families import resolve
from mlxrun.families.gguf import resolve_gguf
from mlxrun.families.gguf.architectures import ARCHITECTURES
from mlxrun.spec import ModelError
from tests.golden.checkpoint import FOLDER
from tests.unit.families.test_gguf_models import SHAPES, metadata
from tests.unit.families.values import VALUES, mutant

EACH = 20  # mutants of a config; by hand 10,000 of each once found what these keep
OWN = [
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.layer_norm_epsilon",
    "attention.q_lora_rank",
    "attention.kv_lora_rank",
    "attention.key_length_mla",
    "attention.key_length_swa",
    "attention.shared_kv_layers",
    "attention.scale",
    "attention.temperature_scale",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_weights_scale",
    "expert_shared_count",
    "expert_group_count",
    "leading_dense_block_count",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_log_multiplier",
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.time_step_rank",
    "full_attention_interval",
    "nextn_predict_layers",
    "feed_forward_length",
]


def is_told(error: ModelError) -> None:
    text = str(error)
    assert text.isprintable(), text
    assert text.endswith("."), text
    assert len(text) < 1100, text


@pytest.mark.parametrize("case", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_a_wrong_config_is_a_sentence(case: Path) -> None:
    config, chance = json.loads(case.read_text(encoding="utf-8"))["config"], random.Random(case.stem)
    for _ in range(EACH):
        try:
            resolve(mutant(config, chance))
        except ModelError as error:
            is_told(error)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_wrong_metadata_are_a_sentence(arch: str) -> None:
    chance = random.Random(arch)
    for _ in range(3 * EACH):
        keys: dict[str, Any] = {key: chance.choice(VALUES[:19]) for key in chance.sample(OWN, 4)}
        try:
            resolve_gguf(mutant(metadata(arch, **keys), chance), SHAPES)
        except ModelError as error:
            is_told(error)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("rms_norm_eps", 10**4000, "rms_norm_eps must be a number, not 1000"),
        ("rms_norm_eps", {"__float__": "x"}, "rms_norm_eps must be a number"),
        ("hidden_size", 10**4000, r"hidden_size must be a whole number .*, not 10+\.\.\."),
    ],
    ids=["long", "no text of infinity", "long size"],
)
def test_what_no_number_can_be_is_named(key: str, value: Any, told: str) -> None:
    config = json.loads((FOLDER / "llama.json").read_text(encoding="utf-8"))["config"]
    with pytest.raises(ModelError, match=told):
        resolve({**config, key: value})


def test_arithmetic_that_fails_is_a_refusal_that_names_what_was_read() -> None:
    config = json.loads((FOLDER / "llama_yarn.json").read_text(encoding="utf-8"))["config"]
    config["rope_parameters"]["beta_fast"] = 1e-320
    with pytest.raises(ModelError, match=r"config\.json: no llama model can have such values; .*OverflowError"):
        resolve(config)
