"""Tiny checkpoints that GGUF has words for: golden cases, changed where it has none."""

from __future__ import annotations

import re
from pathlib import Path

from tests.golden.checkpoint import Checkpoint, reference, write

CASES = (
    *("llama", "llama_tied", "llama_bias", "llama_linear", "llama_yarn", "mistral", "mixtral", "qwen2", "qwen3"),
    *("qwen3_moe", "granite", "smollm3", "gemma2", "gemma3", "phi3", "phi3_longrope_short", "olmo2", "olmo3", "gpt2"),
    *("phi3_longrope_long", "bert", "glm4", "qwen2_moe", "olmoe", "ministral3", "cohere2"),
)


def folder_of(name: str, place: Path) -> Path:
    return write(changed(reference(name).checkpoint()), place)


def changed(checkpoint: Checkpoint) -> Checkpoint:
    config = checkpoint.config
    if "query_pre_attn_scalar" in config:  # no other scale than the head's
        config["query_pre_attn_scalar"] = config["head_dim"]
    config.pop("clip_qkv", None)  # which llama.cpp does not do in this architecture
    if config["model_type"] == "qwen3_moe":  # experts in every layer, and their weights sum to one
        config["norm_topk_prob"] = True
        return _only_experts(checkpoint)
    return checkpoint


def _only_experts(checkpoint: Checkpoint) -> Checkpoint:
    config, weights = checkpoint.config, checkpoint.weights
    layers = range(config["num_hidden_layers"])
    kept = [i for i in layers if f"model.layers.{i}.mlp.gate.weight" in weights]

    def renamed(name: str) -> str:
        return re.sub(r"(?<=layers\.)\d+", lambda number: str(kept.index(int(number[0]))), name)

    dropped = tuple(f"model.layers.{i}." for i in layers if i not in kept)
    config |= {"num_hidden_layers": len(kept), "mlp_only_layers": [], "decoder_sparse_step": 1}
    config.pop("layer_types", None)
    found = {renamed(name): value for name, value in weights.items() if not name.startswith(dropped)}
    return Checkpoint(config, found, checkpoint.format)
