"""A mixture of experts with random weights, quantized by mlx-lm, as a folder that a loader reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.utils


@dataclass(frozen=True)
class Mixture:
    """Like Qwen3 30B A3B, with fewer of everything: 0.5 GB in 4 bits."""

    layers: int = 8
    experts: int = 64
    chosen: int = 8
    dim: int = 1024
    hidden: int = 768
    vocab: int = 4096
    prompt: int = 96  # tokens that are compared: enough to be laid out by expert

    @property
    def config(self) -> dict[str, object]:
        return {
            "model_type": "qwen3_moe",
            "architectures": ["Qwen3MoeForCausalLM"],
            "hidden_size": self.dim,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.hidden,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "rms_norm_eps": 1e-6,
            "vocab_size": self.vocab,
            "max_position_embeddings": 4096,
            "rope_theta": 1e6,
            "tie_word_embeddings": False,
            "num_experts": self.experts,
            "num_experts_per_tok": self.chosen,
            "moe_intermediate_size": self.hidden,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        }


def write(folder: Path, size: Mixture) -> Callable[[mx.array], mx.array]:
    """Gives mlx-lm's model of it."""
    from mlx_lm.models import qwen3_moe

    mx.random.seed(0)
    model = qwen3_moe.Model(qwen3_moe.ModelArgs.from_dict(size.config))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=64, bits=4)
    mx.eval(model.parameters())
    weights = dict(mlx.utils.tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    told = {**size.config, "quantization": {"group_size": 64, "bits": 4}}
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return model
