"""Golden cases of families that transformers has not; mlx-lm's class is their reference (`make_mlx.py`).

Configs are spelled as the authors of each family do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .case import EPS, TINY, Case

OLDER = {"torch_dtype": "float32", "transformers_version": "4.57.1"}


def theirs(model_type: str, *, eps: str = "rms_norm_eps", without: str = "", **config: Any) -> Case:
    """On the common sizes, less those `without` that the family calls otherwise."""
    sizes = {key: value for key, value in TINY.items() if key not in without.split()}
    given = {**sizes, eps: EPS, "rope_theta": 50000.0, **OLDER, **config}
    return replace(Case(model_type, {k: v for k, v in given.items() if k not in without.split()}), of="mlx-lm")


MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
EXAONE = theirs(
    "exaone", eps="layer_norm_epsilon", without="num_hidden_layers", num_layers=4, activation_function="silu"
)
BAILING = theirs(
    "bailing_moe",
    **MOE,
    num_shared_experts=2,
    first_k_dense_replace=1,
    norm_topk_prob=True,
    norm_head=False,
    norm_softmax=False,
    use_bias=False,
    use_qkv_bias=False,
)
BAILING_2 = BAILING.but(
    n_group=4,
    topk_group=2,
    score_function="sigmoid",
    moe_router_enable_expert_bias=True,
    routed_scaling_factor=2.5,
    use_qk_norm=True,
    partial_rotary_factor=0.5,
    moe_shared_expert_intermediate_size=24,
    num_shared_experts=1,
)
DEEPSEEK = theirs(
    "deepseek",
    n_routed_experts=8,
    n_shared_experts=2,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    moe_layer_freq=1,
    first_k_dense_replace=1,
    norm_topk_prob=False,
    scoring_func="softmax",
    aux_loss_alpha=0.001,
    seq_aux=True,
    num_key_value_heads=4,
)
MINICPM = theirs("minicpm", scale_emb=3, scale_depth=1.1, dim_model_base=32)

MLX_LM: dict[str, Case] = {
    "exaone": EXAONE.but(tie_word_embeddings=False),
    "exaone_scaled": EXAONE.but(
        tie_word_embeddings=True,
        head_dim=16,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "bailing_moe": BAILING.but(first_k_dense_replace=0),
    "bailing_moe_bias": BAILING.but(use_qkv_bias=True, num_shared_experts=0),
    "bailing_moe_2": BAILING_2.biased("positive"),
    "deepseek": DEEPSEEK,
    "deepseek_plain": DEEPSEEK.but(
        n_shared_experts=None, attention_bias=True, rope_scaling={"type": "linear", "factor": 4.0}
    ),
    "internlm2": theirs("internlm2", bias=False, hidden_act="silu", rope_scaling={"type": "linear", "factor": 2.0}),
    "internlm2_bias": theirs("internlm2", bias=True, tie_word_embeddings=True),
    "mimo": theirs("mimo", num_nextn_predict_layers=1, attention_bias=True, use_sliding_window=False),
    "mimo_tied": theirs("mimo", tie_word_embeddings=True, num_nextn_predict_layers=0),
    "minicpm": MINICPM,
    "minicpm_plain": MINICPM.but(scale_depth=2.0),  # which is 1 in four layers
}
