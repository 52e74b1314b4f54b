"""A GGUF file's tensors under the names of Hugging Face, for families whose files differ in names and row order only.

Rows of query and key that llama.cpp permuted go back to where they were; that moves whole rows, so quantized weights
stay as they are, bit for bit. Families whose norms are folded, whose rope is in tensors, or that have experts are
refused by name, but for Llama 3's scaling, which is recognized.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import mlx.core as mx

from ..families.gguf import config_of, resolve_gguf
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import ModelError
from ..weights import Checkpoint
from ..weights.lowrank import LowRank

Named = TypeVar("Named", bound=Weight | LowRank)
PLACES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OWN = {
    "olmo2": {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"},
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
KNOWN = ("llama", "smollm3", "granite", "qwen2", "qwen3", "olmo2", "phi3")
LOW, HIGH = 1.0, 4.0  # Llama 3's own bounds
LAYER = re.compile(r"^blk\.(\d+)\.(\w+)\.(weight|bias)$")


def hf_tensors(checkpoint: Checkpoint) -> tuple[dict[str, Weight], dict[str, Any]]:
    """(lazy tensors, config.json)."""
    config = hf_config(checkpoint)
    return in_hf_names(checkpoint, checkpoint.tensors(), _apart), config


def hf_config(checkpoint: Checkpoint) -> dict[str, Any]:
    config, _ = config_of(checkpoint.metadata, checkpoint.shapes)
    name = str(checkpoint.metadata.get("general.architecture"))
    factors = checkpoint.rope_factors.get("rope_freqs.weight")
    scaling = None if factors is None else llama3_scaling(factors, float(config["rope_theta"]))
    config |= {"rope_scaling": scaling} if scaling else {}
    if name not in KNOWN or (checkpoint.rope_factors and scaling is None):
        why = "scales its rope in a way of its own" if name in KNOWN else f"is of the architecture {name}"
        raise ModelError(
            f"{checkpoint.path.name} {why}, which is run as it is and cannot be written in MLX's format yet; "
            f"{', '.join(KNOWN)} without that can."
        )
    resolve_gguf(checkpoint.metadata, checkpoint.shapes, checkpoint.rope_factors)  # refuses what no model can have
    return config


def changes_in_hf_names(checkpoint: Checkpoint, changes: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """What an adapter for the file changes."""
    return in_hf_names(
        checkpoint, changes, lambda change, heads: change.changed(0, lambda part, axis: _turned(part, heads))
    )


def in_hf_names(
    checkpoint: Checkpoint, tensors: Mapping[str, Named], apart: Callable[[Named, int], Named]
) -> dict[str, Named]:
    """What is called as the file's tensors are. `apart`: puts rows of heads back to where they were."""
    config, arch = config_of(checkpoint.metadata, checkpoint.shapes)
    name = str(checkpoint.metadata.get("general.architecture"))
    heads = (
        {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]} if arch.interleaved else {}
    )
    found: dict[str, Named] = {}
    for tensor, weight in tensors.items():
        match = LAYER.match(tensor)
        if tensor == "rope_freqs.weight":
            continue
        if match is None:
            module, _, part = tensor.rpartition(".")
            if module not in WHOLE:
                raise ModelError(f"{checkpoint.path.name}: the tensor {tensor} has no place in MLX's format.")
            found[f"{WHOLE[module]}.{part}"] = weight
            continue
        layer, place, part = match.groups()
        own = {**PLACES, **OWN.get(name, {})}
        if place not in own:
            raise ModelError(f"{checkpoint.path.name}: the tensor {tensor} has no place in MLX's format.")
        if place in heads and weight.shape[0] != heads[place] * config["head_dim"]:
            wanted = f"{heads[place]} heads of {config['head_dim']}"
            raise ModelError(
                f"{checkpoint.path.name}: the tensor {tensor} has {weight.shape[0]} rows; this model needs {wanted}."
            )
        turned = apart(weight, heads[place]) if place in heads else weight
        found[f"model.layers.{layer}.{own[place]}.{part}"] = turned
    return found


def llama3_scaling(factors: Sequence[float], base: float) -> dict[str, Any] | None:
    """The config's words for a tensor of factors, if Llama 3's rule with its usual bounds makes these."""
    largest, count = max(factors), len(factors)
    waves = [2 * math.pi * base ** (i / count) for i in range(count)]
    for original in (2**power for power in range(4, 21)):
        blend = [min(max((original / wave - LOW) / (HIGH - LOW), 0.0), 1.0) for wave in waves]
        made = [1 / ((1 - share) / largest + share) for share in blend]
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(made, factors, strict=True)):
            bounds = {"low_freq_factor": LOW, "high_freq_factor": HIGH, "original_max_position_embeddings": original}
            return {"rope_type": "llama3", "factor": float(round(largest, 4)), **bounds}
    return None


def _apart(weight: Weight, heads: int) -> Weight:
    turn = partial(_turned, heads=heads)
    return weight.rows(turn) if isinstance(weight, QuantizedWeight) else turn(weight)


def _turned(part: mx.array, heads: int) -> mx.array:
    """Rows of a head: neighbours that rope turns together -> first halves, then second halves."""
    rows = part.reshape(heads, part.shape[0] // heads // 2, 2, *part.shape[1:])
    return mx.contiguous(rows.swapaxes(1, 2)).reshape(part.shape)
