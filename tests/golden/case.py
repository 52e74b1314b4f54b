"""What a golden case is, and the sizes that most of them share.

Everything small but real: grouped heads, fewer keys than heads, more tokens than any window, chunk or top-k.
Knows nothing of torch, transformers or mlxrun.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

VOCAB = 48
EPS = 0.01  # large enough that a norm with another one shows
SelectBias = Literal["mixed", "negative", "positive"]


@dataclass(frozen=True)
class Case:
    model_type: str
    config: dict[str, Any]
    tokens: int = 26
    select_bias: SelectBias = "mixed"  # where the router's selection biases are drawn from
    seed: int = 0  # changed where rounding moved the reference too much
    encoder: bool = False  # the reference is the last hidden state
    of: Literal["transformers", "mlx-lm"] = "transformers"  # whose class the reference is

    def but(self, **changes: Any) -> Case:
        """The same case with some config keys changed."""
        return replace(self, config={**self.config, **changes})

    def biased(self, select_bias: SelectBias) -> Case:
        return replace(self, select_bias=select_bias)

    def seeded(self, seed: int) -> Case:
        return replace(self, seed=seed)


def prompt(tokens: int) -> list[int]:
    """Token ids that every case of this length is asked about; 0 to 2 are left to the special ones."""
    return [int(t) for t in np.random.RandomState(tokens).randint(3, VOCAB, size=tokens)]


TINY: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
IDS = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ROPE = {"rope_type": "default", "rope_theta": 50000.0}
HALF_ROPE = {**ROPE, "partial_rotary_factor": 0.5}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
MSCALE_YARN = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
MISTRAL_YARN = {**MSCALE_YARN, "factor": 16.0, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.1}
SLIDE, FULL = "sliding_attention", "full_attention"


def tiny(model_type: str, *, eps: str | None = "rms_norm_eps", rope: Any = ROPE, **config: Any) -> Case:
    """A case on the common sizes; rope=None leaves the family's own."""
    given = {**TINY, **({eps: EPS} if eps else {}), **({} if rope is None else {"rope_parameters": rope}), **config}
    return Case(model_type, given)


def own(model_type: str, eps: str | None = "layer_norm_epsilon", **config: Any) -> Case:
    """A case of a family with key names of its own."""
    return Case(model_type, {**IDS, **({eps: EPS} if eps else {}), **config})
