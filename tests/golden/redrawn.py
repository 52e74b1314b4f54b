"""Checkpoints made from a case's own so that a fast form serves which the case does not reach: the same outputs.

Knows nothing of mlxrun.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .checkpoint import Checkpoint

LAST = re.compile(r"\.(o_proj|down_proj|out_proj|output_linear)\.weight$")  # of a branch


def residual_in_weights(c: Checkpoint) -> Checkpoint:
    """What multiplies a branch multiplies its last matrix instead; 0.5 loses no bit."""
    factor = c.config["residual_multiplier"]
    weights = {name: value * np.float32(factor) if LAST.search(name) else value for name, value in c.weights.items()}
    return replace(c, config={**c.config, "residual_multiplier": 1.0}, weights=weights)


def granite_as_hybrid(c: Checkpoint) -> Checkpoint:
    """Granite 3 as a Granite 4 without Mamba layers or experts, as the Micro is."""
    c = residual_in_weights(c)
    layers = c.config["num_hidden_layers"]
    weights = {
        re.sub(r"\.mlp\.down_proj\.", ".shared_mlp.output_linear.", name): value
        for name, value in c.weights.items()
        if not re.search(r"\.(gate|up)_proj\.", name)
    }
    for i in range(layers):
        both = [c.weights[f"model.layers.{i}.mlp.{part}_proj.weight"] for part in ("gate", "up")]
        weights[f"model.layers.{i}.shared_mlp.input_linear.weight"] = np.concatenate(both)
    of_hybrids = {
        "model_type": "granitemoehybrid",
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "layer_types": ["attention"] * layers,
        "position_embedding_type": "rope",
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": c.config["intermediate_size"],
    }
    return replace(c, config={**c.config, **of_hybrids}, weights=weights)


# name: (the case whose outputs it has, the case beside which it counts, how it is made)
REDRAWN: dict[str, tuple[str, str, Callable[[Checkpoint], Checkpoint]]] = {
    "granite, residual in weights": ("granite", "granite", residual_in_weights),
    "granite_hybrid_dense, residual in weights": ("granite_hybrid_dense", "granite_hybrid_dense", residual_in_weights),
    "granitemoe, residual in weights": ("granitemoe", "granitemoe", residual_in_weights),
    "granite_hybrid_dense, attention only": ("granite", "granite_hybrid_dense", granite_as_hybrid),
}
