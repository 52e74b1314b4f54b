"""Checkpoints in mlx-lm's dialect, written by mlx-lm's own model classes.

Its class for the family takes the drawn weights in, renames and reshapes them as its converter does, and
gives back what the converter would save. Whether that class also computes the right answer does not
matter here, and for several families it does not. Quantizing is left to `quantized` below, which is
mlx's own.
"""

from __future__ import annotations

import importlib
import resource
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from .case import VOCAB
from .checkpoint import Checkpoint
from .layouts import LAYOUTS, spelled

# case, or its model type: why there is no such checkpoint
NO_MLX = {
    "apertus_bias": "mlx-lm's class has no biases",
    "arcee": "mlx-lm has no class for it",
    "bert": "mlx-lm has no class for it",
    "eurobert": "mlx-lm has no class for it",
    "gte": "mlx-lm has no class for it",
    "jina_embeddings_v3": "mlx-lm has no class for it",
    "mpnet": "mlx-lm has no class for it",
    "nomic_bert": "mlx-lm has no class for it",
    "roberta": "mlx-lm has no class for it",
    "xlm-roberta": "mlx-lm has no class for it",
    "bitnet": "mlx-lm's class reads packed ternary weights only",
    "bloom": "mlx-lm has no class for it",
    "dots1_negative": "mlx-lm's class has no biases in attention",
    "embedding_gemma": "mlx-lm's class sees back only",
    "ernie4_5_moe": "mlx-lm's class drops the biases that choose experts",
    "gpt_bigcode": "mlx-lm's class cannot be made",
    "falcon_h1_bias": "mlx-lm's class folds multipliers into weights and not into biases",
    "bailing_hybrid_negative": "mlx-lm's class knows decays with a floor only",
    "bamba": "mlx-lm has no class for it",
    "kimi_linear_negative": "mlx-lm's class has no compressed queries",
    "gemma3n_second": "mlx-lm's class has no biases in attention",
    "recurrent_gemma_narrow": "mlx-lm's class has no narrower recurrence, and one key head",
    "glm_moe_dsa_shared": "mlx-lm's class has an indexer in every layer",
    "hunyuan_moe_bias": "mlx-lm's class has one width for heads",
    "minicpm3_whole_q": "mlx-lm's class has no whole query projection",
    "internlm3_bias": "mlx-lm's class has no bias on the key projection",
    "mellum": "mlx-lm's class has experts in every layer",
    "modernbert": "mlx-lm has no class for it",
    "nanochat": "mlx-lm's class takes its authors' names only",
    "olmo": "mlx-lm's class is for the layout before transformers had one, and exits unless hf_olmo is installed",
    "opt": "mlx-lm has no class for it",
    "youtu_bias": "mlx-lm's class turns neighbours only",
    "starcoder2_plain": "mlx-lm's class always has biases",
}
CLASS = {
    "hunyuan_v1_moe": "hunyuan",
    "youtu": "youtu_llm",
    "falcon_mamba": "mamba",
    "bailing_hybrid": "bailing_moe_v3",
    "gemma3n_text": "gemma3n",
    "gemma4_unified": "gemma4",
    "iquestcoder": "llama",
    "kimi_k2": "deepseek_v3",
    "minimax_m2": "minimax",
    "mistral": "llama",
}
# case: the layout that mlx-lm's converter starts from, where it is not the base one
FROM = {
    "bailing_hybrid": "as published",
    "gemma3n": "wrapped",
    "gemma4_dense": "wrapped",
    "gemma4_moe": "wrapped",
    "gemma4_small": "wrapped",
    "gemma4_unified": "wrapped",
    "gpt2": "bare",
    "kimi_k2": "wrapped",
    "kimi_linear": "as published",
    "olmo_hybrid": "as published",
    "olmo_hybrid_turned": "as published",
    "llama4_maverick": "wrapped",
    "llama4_scout": "wrapped",
    "ministral3": "wrapped",
    "mistral4": "wrapped",
    "qwen3_5": "wrapped",
    "qwen3_5_moe": "wrapped",
}
# case, or its model type: keys that mlx-lm's class insists on, at the top of the config
INSISTS: dict[str, dict[str, Any]] = {
    "gemma4_unified": {"vocab_size": VOCAB},
    "gemma4_text": {"vocab_size": VOCAB},
    "falcon_h1": {"head_dim": 16},
    "lfm2": {"block_dim": 64},
    "bailing_hybrid": {"q_lora_rank": None},  # which it takes for 256
    "granite_hybrid_dense": {"intermediate_size": 48},  # the width that it takes for the shared network's
}


def reason_against(name: str, model_type: str) -> str | None:
    return NO_MLX.get(name) or NO_MLX.get(model_type)


def module_of(config: dict[str, Any]) -> Any:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    module = importlib.import_module(f"mlx_lm.models.{CLASS.get(config['model_type'], config['model_type'])}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # importing mlx-lm lowers it
    if (soft, hard) != limits and hard >= limits[0]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0], hard))
    return module


def loaded(name: str, base: Checkpoint) -> tuple[nn.Module, dict[str, Any]]:
    """mlx-lm's model with the checkpoint's weights in it, and the config that it was made from."""
    source = LAYOUTS[name][FROM[name]](base) if name in FROM else replace(base, config=spelled(base.config))
    if source.config["model_type"] == "gpt_oss":
        source = replace(source, weights=dict(map(gpt_oss_rows, source.weights.items())))
    config = {**source.config, **INSISTS.get(base.config["model_type"], {}), **INSISTS.get(name, {})}
    module = module_of(config)
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = {tensor: mx.array(value) for tensor, value in source.weights.items()}
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)
    model.load_weights(list(weights.items()))
    return model, config


def gpt_oss_rows(item: tuple[str, Any]) -> tuple[str, Any]:
    """Experts as the MXFP4 files have them, outputs first: its class knows no other order."""
    name, value = item
    return (f"{name}.weight", value.swapaxes(1, 2)) if name.endswith(("gate_up_proj", "down_proj")) else item


def in_mlx(name: str, base: Checkpoint) -> Checkpoint:
    model, config = loaded(name, base)
    return saved(model, config)


def saved(model: nn.Module, config: dict[str, Any]) -> Checkpoint:
    weights = {tensor: np.array(value) for tensor, value in tree_flatten(model.parameters())}
    return Checkpoint(config, weights, format="mlx")
