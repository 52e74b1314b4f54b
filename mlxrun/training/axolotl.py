"""Axolotl's keys in ours, by a table. What has no counterpart here and would change the training is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import ModelError, shown

NAMES = {
    "base_model": "model",
    "adapter": "method",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_target_modules": "targets",
    "sequence_len": "length",
    "micro_batch_size": "batch",
    "gradient_accumulation_steps": "accumulate",
    "sample_packing": "packing",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "learning_rate": "rate",
    "lr_scheduler": "schedule",
    "warmup_steps": "warmup",
    "weight_decay": "decay",
    "max_grad_norm": "clip",
    "rl": "objective",
    "rl_beta": "beta",
    "dpo_beta": "beta",
    "orpo_alpha": "beta",
    "eval_steps": "evaluate_every",
    "save_steps": "save",
    "output_dir": "out",
    "datasets": "data",
    "test_datasets": "evaluate",
}
# these say here what they say there only with these values; any other is an error
FIXED: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adamw", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit"),
    "lora_dropout": (0, 0.0, None),
    "lora_target_linear": (True, None),
    "val_set_size": (0, 0.0, None),
    "bf16": (True, False, "auto", None),
    "fp16": (True, False, None),
    "tf32": (True, False, None),
    "load_in_4bit": (True, False, None),
    "load_in_8bit": (True, False, None),
    "flash_attention": (True, False, None),
    "gradient_checkpointing": (True, False, None),
    "logging_steps": tuple(range(1, 1001)),
    "pad_to_sequence_len": (True, False, None),
    "strict": (True, False, None),
    "peft_use_dora": (True, False, None),
}


def translated(found: Mapping[str, Any], who: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if found.get("peft_use_dora"):
        found = {**found, "adapter": "dora"}
    for key, value in found.items():
        if key in FIXED:
            if value not in FIXED[key]:
                raise ModelError(f"{who}: {key} {shown(value)} is not done here; leave it out.")
            continue
        name, value = _in_ours(key, value, who)
        if name in told:
            raise ModelError(f"{who} says {name} twice, once as {key}.")
        told[name] = value
    return told


def _in_ours(key: str, value: Any, who: str) -> tuple[str, Any]:
    if key == "train_on_inputs":
        return "loss", "all" if value else "assistant"
    if key == "adapter" and value == "qlora":
        return "method", "lora"
    if key in ("datasets", "test_datasets"):
        return NAMES[key], _paths(f"{who}: {key}", value)
    return NAMES.get(key, key), value


def _paths(who: str, value: Any) -> list[Any]:
    """Of entries with a path and, perhaps, the type by which rows are found to be conversations anyway."""
    paths = []
    for entry in value if isinstance(value, list) else [value]:
        more = sorted(entry.keys() - {"path", "type", "ds_type"}) if isinstance(entry, dict) else []
        if not isinstance(entry, dict) or more or entry.get("type", "chat_template") not in ("chat_template", None):
            raise ModelError(f"{who} takes entries with a path to a JSONL file of conversations, not {shown(entry)}.")
        paths.append(entry.get("path"))
    return paths
