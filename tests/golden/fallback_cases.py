"""Golden cases of model types that have no recipe and run on mlx-lm's class: what proves that class.

`try_fallback.py` makes them and says which classes agree; those are stored under `fallback/` and run by
`test_fallback_cases.py`.
"""

from __future__ import annotations

from .case import FULL, HALF_ROPE, SLIDE, VOCAB, Case, tiny
from .cases import DELTA, GROUPED, HEAD, LATENT_SIZES, MOE, UNGROUPED

UNGROUPED_LATENT = {key: value for key, value in UNGROUPED.items() if key != "first_k_dense_replace"}

# their class insists on keys that only older files have
OLDER_ONLY = {"lfm2"}

FALLBACK: dict[str, Case] = {
    "apertus": tiny("apertus"),
    "bailing_hybrid": tiny(
        "bailing_hybrid",
        **{**LATENT_SIZES, "q_lora_rank": None},
        **{**GROUPED, "num_local_experts": 8},
        head_dim=16,
        layer_group_size=2,
    ),
    "bitnet": tiny("bitnet"),
    "dbrx": Case(
        "dbrx",
        {
            "vocab_size": VOCAB,
            "d_model": 64,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 512,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.5, "rope_theta": 10000.0},
            "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
            "pad_token_id": 0,
        },
    ),
    "gemma3n": tiny(
        "gemma3n_text",
        rope=None,
        **HEAD,
        num_hidden_layers=6,
        sliding_window=8,
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=VOCAB,
        num_kv_shared_layers=2,
        laurel_rank=8,
        layer_types=[SLIDE] * 2 + [FULL] + [SLIDE] * 2 + [FULL],
        activation_sparsity_pattern=[0.5] * 2 + [0.0] * 4,
    ),
    "kimi_linear": tiny(
        "kimi_linear",
        rope=None,
        **{**LATENT_SIZES, "q_lora_rank": None},
        **{k: v for k, v in UNGROUPED.items() if k not in ("n_routed_experts", "first_k_dense_replace")},
        num_local_experts=8,
        linear_head_dim=16,
        linear_num_heads=4,
        linear_conv_kernel_dim=4,
    ),
    "lfm2": tiny("lfm2", eps="norm_eps", block_auto_adjust_ff_dim=False, layer_types=["conv", FULL, "conv", FULL]),
    "lfm2_moe": tiny("lfm2_moe", eps="norm_eps", **MOE, num_dense_layers=1, layer_types=["conv", FULL, "conv", FULL]),
    "longcat_flash": tiny(
        "longcat_flash",
        **LATENT_SIZES,
        num_layers=2,
        ffn_hidden_size=96,
        expert_ffn_hidden_size=32,
        moe_topk=2,
        n_routed_experts=8,
        zero_expert_num=2,
        routed_scaling_factor=2.0,
        head_dim=8,
    ),
    "mimo_v2_flash": tiny(
        "mimo_v2_flash",
        rope=None,
        head_dim=24,
        v_head_dim=16,
        sliding_window=8,
        n_routed_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        layer_types=[SLIDE, FULL] * 2,
    ),
    "minicpm3": tiny("minicpm3", **{**LATENT_SIZES, "v_head_dim": 16}, scale_emb=3, scale_depth=1.4, dim_model_base=16),
    "minimax": tiny(
        "minimax", **HEAD, num_local_experts=4, num_experts_per_tok=2, layer_types=["linear_attention", FULL] * 2
    ),
    "olmo_hybrid": tiny("olmo_hybrid", **DELTA, layer_types=["linear_attention", FULL] * 2),
    "recurrent_gemma": tiny(
        "recurrent_gemma", attention_window_size=8, num_hidden_layers=3, lru_width=64, rope=HALF_ROPE
    ),
}

NO_REFERENCE = "transformers has no reference"
MULTIMODAL = "its language model has no recipe under that name"
# mlx-lm's classes that are refused until a person says --unchecked, and why nobody has checked them
UNCHECKED: dict[str, str] = {
    **dict.fromkeys(
        [
            "Klear",
            "afm7",
            "baichuan_m1",
            "bailing_moe",
            "bailing_moe_linear",
            "bailing_moe_v3",
            "deepseek",
            "deepseek_v41",
            "exaone",
            "gear",
            "hunyuan",
            "internlm2",
            "iquestloopcoder",
            "kimi_k3",
            "lille-130m",
            "longcat_flash_ngram",
            "mimo",
            "minicpm",
            "nanbeige",
            "nemotron-nas",
            "openelm",
            "phi3small",
            "phixtral",
            "plamo",
            "plamo2",
            "plamo3",
            "prism_hadamard_qwen35",
            "qwen",
            "rwkv7",
            "spark2_5",
            "step3p5",
            "talkie",
            "telechat3",
            "youtu_llm",
        ],
        NO_REFERENCE,
    ),
    **dict.fromkeys(
        ["kimi_vl", "lfm2-vl", "minimax_m3_vl", "muse_glimmer", "muse_spark", "pixtral", "qwen3_vl_moe"], MULTIMODAL
    ),
    "apertus": "transformers' own files of a tiny one cannot be read back",
    "bailing_hybrid": "its reference takes too long to be tried weight by weight",
    "bitnet": "its class reads packed ternary weights only",
    "dbrx": "transformers and the class look for the base of its rope in different places",
    "gemma3n": "its class reads one rope for all layers",
    "kimi_linear": "its class asks for keys that transformers' config has not",
    "longcat_flash": "its class asks for keys that transformers' config has not",
    "mimo_v2_flash": "its class cannot be made from transformers' config",
    "minicpm3": "its class cannot be made without a scaled rope",
    "minimax": "its class is that of MiniMax M2, another architecture",
    "olmo_hybrid": "its class has another layout of keys than transformers",
    "recurrent_gemma": "its recurrence has weights that the cases cannot draw yet",
}
