"""The golden cases as data: a name, a model type, and the arguments of a tiny transformers config.

`make.py` turns a case into a reference, `checkpoint.py` a reference into files.
"""

from __future__ import annotations

from dataclasses import replace

from .case import FULL, HALF_ROPE, LLAMA3, MISTRAL_YARN, MSCALE_YARN, ROPE, SLIDE, VOCAB, YARN, Case, own, tiny
from .encoder_cases import ENCODERS
from .mlx_lm_cases import MLX_LM

HEAD = {"head_dim": 16}
WIDE_HEAD = {"head_dim": 24}  # heads * head_dim differs from hidden_size
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SHARED_MOE = {**MOE, "shared_expert_intermediate_size": 48}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "linear_conv_kernel_dim": 4,
}
QWEN35_ROPE = {**HALF_ROPE, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
LATENT_SIZES = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 32,
    "v_head_dim": 24,
}
ROUTED = {
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
}
GROUPED = {**ROUTED, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}
UNGROUPED = {**ROUTED, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.5}
UNGROUPED_ALL = {key: value for key, value in UNGROUPED.items() if key != "first_k_dense_replace"}
INDEX = {"index_topk": 8, "index_head_dim": 16, "index_n_heads": 32}  # 32: the sum of ReLUs has no ties at zero
GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
}
GRANITE_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
STEPS = [0.2, 0.9]  # limits that some steps reach, on both sides
NEMOTRON_H = {
    "hybrid_override_pattern": "M*M-ME",
    "num_hidden_layers": 6,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "chunk_size": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 48,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.5,
}
JAMBA = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": 8,
    "use_mamba_kernels": False,
}
GEMMA3_ROPE = {
    FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    SLIDE: {"rope_type": "default", "rope_theta": 1e4},
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [1.5 + 0.3 * i for i in range(8)],
    "original_max_position_embeddings": 64,
    "partial_rotary_factor": 1.0,
}
OLMO_ROPE = {FULL: {**YARN, "rope_theta": 5e5}, SLIDE: {"rope_type": "default", "rope_theta": 5e5}}
LAGUNA_ROPE = {
    FULL: {**YARN, "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
    SLIDE: {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
}

DEEPSEEK = tiny("deepseek_v3", rope=MSCALE_YARN, **LATENT_SIZES, **GROUPED)
DEEPSEEK_V2 = tiny(
    "deepseek_v2",
    rope=MSCALE_YARN,
    **LATENT_SIZES,
    **{**ROUTED, "n_shared_experts": 2, "norm_topk_prob": False},
    topk_method="greedy",
    routed_scaling_factor=1.5,
)
GLM_DSA = tiny("glm_moe_dsa", **LATENT_SIZES, **GROUPED, **INDEX)
GLM4_MOE = tiny("glm4_moe", rope=HALF_ROPE, **HEAD, **UNGROUPED, use_qk_norm=True, attention_bias=True)
LLAMA4 = tiny(
    "llama4_text",
    rope=LLAMA3,
    **HEAD,
    intermediate_size=32,
    intermediate_size_mlp=96,
    num_local_experts=4,
    num_experts_per_tok=1,
    interleave_moe_layer_step=1,
    attention_chunk_size=8,
    attn_temperature_tuning=True,
    floor_scale=8,
    attn_scale=0.1,
    use_qk_norm=True,
    no_rope_layers=[1, 1, 1, 0],
)
GEMMA4 = tiny(
    "gemma4_text",
    rope=None,
    **HEAD,
    num_hidden_layers=6,
    sliding_window=8,
    global_head_dim=32,
    hidden_size_per_layer_input=0,
    layer_types=[SLIDE] * 2 + [FULL] + [SLIDE] * 2 + [FULL],
    final_logit_softcapping=30.0,
)
GPT_OSS = tiny(
    "gpt_oss",
    rope={**YARN, "rope_theta": 150000.0, "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096},
    **HEAD,
    intermediate_size=64,
    num_local_experts=4,
    num_experts_per_tok=2,
    sliding_window=8,
    layer_types=[SLIDE, FULL] * 2,
    max_position_embeddings=131072,
)
AFMOE = tiny(
    "afmoe",
    **HEAD,
    **MOE,
    num_shared_experts=1,
    num_dense_layers=1,
    sliding_window=8,
    global_attn_every_n_layers=2,
    layer_types=[SLIDE, FULL] * 2,
    mup_enabled=True,
    route_scale=2.0,
)
PHI3_LONG = tiny("phi3", rope=LONGROPE, original_max_position_embeddings=64, sliding_window=None)
PHIMOE = tiny(
    "phimoe",
    num_local_experts=4,
    num_experts_per_tok=2,
    router_jitter_noise=0.2,  # far from the default, so that the threshold shows
    sliding_window=None,
    attention_bias=True,
    lm_head_bias=True,
)
MAMBA = {"hidden_size": 64, "num_hidden_layers": 3, "conv_kernel": 4, "expand": 2}
MAMBA1 = {**MAMBA, "state_size": 8, "time_step_rank": 8, "use_mambapy": False}
MAMBA2 = own("mamba2", **MAMBA, num_heads=8, head_dim=16, state_size=16, n_groups=1, chunk_size=8)
ENCODER = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
OPT = own(
    "opt", None, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, ffn_dim=96, max_position_embeddings=128
)
NEOX = own(
    "gpt_neox",
    "layer_norm_eps",
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=128,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    use_parallel_residual=True,
)

MINICPM = {"scale_emb": 3, "scale_depth": 1.1, "dim_model_base": 16}
MINICPM_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * i for i in range(4)],
    "long_factor": [1.5 + 0.3 * i for i in range(4)],
    "original_max_position_embeddings": 64,
}
BIGCODE = own("gpt_bigcode", n_embd=64, n_layer=3, n_head=4, n_positions=128)
ERNIE_MOE = tiny(
    "ernie4_5_moe",
    **HEAD,
    moe_k=2,
    moe_num_experts=8,
    moe_intermediate_size=32,
    moe_num_shared_experts=2,
    moe_layer_start_index=1,
)
FALCON_H1 = tiny(
    "falcon_h1",
    num_hidden_layers=3,
    mamba_d_ssm=96,  # neither the width nor twice the width
    mamba_n_heads=6,
    mamba_d_head=16,
    mamba_n_groups=1,
    mamba_d_state=16,
    mamba_d_conv=4,
    mamba_chunk_size=8,
    mamba_rms_norm=False,
    mamba_norm_before_gate=False,
    attention_in_multiplier=0.8,
    attention_out_multiplier=1.3,
    key_multiplier=0.6,
    ssm_in_multiplier=1.2,
    ssm_out_multiplier=0.7,
    ssm_multipliers=[0.9, 1.2, 0.8, 1.1, 0.7],
    mlp_multipliers=[0.7, 1.4],
    embedding_multiplier=1.5,
    lm_head_multiplier=0.75,
)
LFM2 = tiny("lfm2", eps="norm_eps", block_auto_adjust_ff_dim=False, layer_types=["conv", FULL, "conv", FULL])
LFM2_MOE = tiny("lfm2_moe", eps="norm_eps", **MOE, num_dense_layers=1, layer_types=["conv", FULL, "conv", FULL])
OLMO_HYBRID = tiny(
    "olmo_hybrid",
    rope={"rope_type": "default", "rope_theta": None},
    **DELTA,
    attention_bias=True,
    layer_types=["linear_attention", FULL, "linear_attention", FULL],
)
BAMBA = tiny("bamba", **GRANITE_MAMBA, attn_layer_indices=[1, 3])
KIMI_LINEAR = tiny(
    "kimi_linear",
    rope=None,
    **{**LATENT_SIZES, "q_lora_rank": None},
    **{k: v for k, v in UNGROUPED_ALL.items() if k != "n_routed_experts"},
    num_local_experts=8,
    linear_head_dim=24,
    linear_num_heads=3,
    linear_conv_kernel_dim=4,
    layer_types=["linear_attention", FULL, "linear_attention", FULL],
)
GEMMA3N = tiny(
    "gemma3n_text",
    rope={FULL: {"rope_type": "default", "rope_theta": 1e6}, SLIDE: {"rope_type": "default", "rope_theta": 1e4}},
    **WIDE_HEAD,
    num_hidden_layers=6,
    sliding_window=8,
    hidden_size_per_layer_input=16,
    vocab_size_per_layer_input=40,  # the last tokens have no row of their own
    num_kv_shared_layers=2,
    laurel_rank=8,
    altup_num_inputs=4,
    layer_types=[SLIDE] * 2 + [FULL] + [SLIDE] * 2 + [FULL],
    activation_sparsity_pattern=[0.5] * 2 + [0.0] * 4,
)
RECURRENT_GEMMA = tiny(
    "recurrent_gemma",
    rope=HALF_ROPE,
    hidden_size=96,  # whose root is no number of eight bits
    num_key_value_heads=1,
    attention_window_size=8,
    num_hidden_layers=4,
    max_position_embeddings=None,
)
BAILING_HYBRID = tiny(
    "bailing_hybrid",
    rope=None,
    **{key: value for key, value in LATENT_SIZES.items() if key != "q_lora_rank"},
    **{k: v for k, v in UNGROUPED.items() if k != "n_routed_experts"},
    num_local_experts=8,
    head_dim=24,
    layer_group_size=2,
)

CASES: dict[str, Case] = {
    "llama": tiny("llama", rope=LLAMA3, **HEAD),
    "llama_tied": tiny("llama", **HEAD, tie_word_embeddings=True),
    "llama_linear": tiny("llama", rope={**ROPE, "rope_type": "linear", "factor": 4.0}, **HEAD),
    "llama_yarn": tiny("llama", rope=YARN, **HEAD),
    "llama_bias": tiny("llama", **WIDE_HEAD, attention_bias=True, mlp_bias=True),
    "llama4_scout": LLAMA4,
    "llama4_maverick": LLAMA4.but(interleave_moe_layer_step=2, use_qk_norm=False, rope_parameters=ROPE),
    "mistral": tiny("mistral", **WIDE_HEAD, sliding_window=None),
    "mistral_window": tiny("mistral", **HEAD, sliding_window=8),
    "ministral3": tiny("ministral3", rope=MISTRAL_YARN, **HEAD, sliding_window=None),
    "mistral4": tiny("mistral4", rope=MISTRAL_YARN, **LATENT_SIZES, **GROUPED),
    "mixtral": tiny("mixtral", **HEAD, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": tiny("qwen2", use_sliding_window=False),
    "qwen2_window": tiny("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=2),
    "qwen2_moe": tiny("qwen2_moe", **SHARED_MOE, norm_topk_prob=False),
    "qwen3": tiny("qwen3", **WIDE_HEAD, tie_word_embeddings=True),
    "qwen3_moe": tiny("qwen3_moe", **HEAD, **MOE, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1]),
    "qwen3_moe_plain": tiny("qwen3_moe", **HEAD, **MOE, norm_topk_prob=False, decoder_sparse_step=2),
    "qwen3_next": tiny(
        "qwen3_next", rope={**ROPE, "partial_rotary_factor": 0.25}, **HEAD, **SHARED_MOE, **DELTA, norm_topk_prob=True
    ).seeded(4),
    "qwen3_5": tiny("qwen3_5_text", rope=QWEN35_ROPE, **HEAD, **DELTA).seeded(1),
    "qwen3_5_moe": tiny("qwen3_5_moe_text", rope=QWEN35_ROPE, **HEAD, **DELTA, **SHARED_MOE).seeded(4),
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v2_whole_q": DEEPSEEK_V2.but(q_lora_rank=None),
    "deepseek_v3": DEEPSEEK.biased("positive"),
    "deepseek_v3_negative": DEEPSEEK.biased("negative").seeded(1),
    "deepseek_v3_whole_q": DEEPSEEK.but(q_lora_rank=None, rope_parameters=ROPE),
    "kimi_k2": DEEPSEEK.but(n_group=1, topk_group=1, rope_parameters={**MSCALE_YARN, "factor": 32.0}),
    "deepseek_v32": tiny("deepseek_v32", rope=MSCALE_YARN, **LATENT_SIZES, **GROUPED, **INDEX),
    "glm4": tiny("glm4", rope=HALF_ROPE, **HEAD, attention_bias=True),
    "glm4_moe": GLM4_MOE.biased("positive"),
    "glm4_moe_negative": GLM4_MOE.but(n_group=4, topk_group=2, use_qk_norm=False).biased("negative"),
    "glm_moe_dsa": GLM_DSA,
    "glm_moe_dsa_dense": GLM_DSA.but(index_topk=64),
    "glm_moe_dsa_shared": GLM_DSA.but(indexer_types=["full", "shared", "full", "shared"]),
    "gemma2": tiny("gemma2", **WIDE_HEAD, sliding_window=8, query_pre_attn_scalar=16, attn_logit_softcapping=5.0),
    "gemma3": tiny(
        "gemma3_text", rope=GEMMA3_ROPE, **HEAD, num_hidden_layers=6, sliding_window=8, query_pre_attn_scalar=24
    ),
    "gemma4_dense": GEMMA4.but(num_global_key_value_heads=1, attention_k_eq_v=True).seeded(4),
    "gemma4_moe": GEMMA4.but(
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        enable_moe_block=True,
        top_k_experts=2,
        num_experts=8,
        moe_intermediate_size=32,
    ).seeded(2),
    "gemma4_small": GEMMA4.but(
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=VOCAB,
        num_kv_shared_layers=2,
        use_double_wide_mlp=True,
    ).seeded(4),
    "gemma4_unified": tiny(
        "gemma4_unified_text",
        rope=None,
        **HEAD,
        num_hidden_layers=6,
        sliding_window=8,
        global_head_dim=32,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        layer_types=[SLIDE] * 2 + [FULL] + [SLIDE] * 2 + [FULL],
        final_logit_softcapping=30.0,
    ).seeded(4),
    "phi": tiny("phi", eps="layer_norm_eps", rope=HALF_ROPE),
    "phi3": tiny("phi3", rope={**ROPE, "partial_rotary_factor": 1.0}, sliding_window=None),
    "phi3_window": tiny(
        "phi3", rope={**ROPE, "partial_rotary_factor": 0.75}, sliding_window=8, tie_word_embeddings=True
    ),
    "phi3_longrope_short": replace(PHI3_LONG, tokens=64),  # the last length with short factors
    "phi3_longrope_long": replace(PHI3_LONG, tokens=65),
    "phimoe": PHIMOE,
    "phimoe_longrope": PHIMOE.but(rope_parameters={**LONGROPE, "short_mscale": 1.2, "long_mscale": 1.3}),
    "gpt_oss": GPT_OSS,
    "gpt_oss_truncate": GPT_OSS.but(rope_parameters={**GPT_OSS.config["rope_parameters"], "truncate": True}),
    "granite": tiny("granite", **GRANITE),
    "granite_hybrid": tiny(
        "granitemoehybrid",
        **GRANITE,
        **GRANITE_MAMBA,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=48,
        layer_types=["mamba", "mamba", "attention", "mamba"],
        position_embedding_type="nope",
    ),
    "granite_hybrid_dense": tiny(
        "granitemoehybrid",
        **GRANITE,
        **{**GRANITE_MAMBA, "mamba_n_groups": 2},
        time_step_limit=STEPS,
        num_local_experts=0,
        num_experts_per_tok=0,
        shared_intermediate_size=48,
        layer_types=["attention", "mamba", "attention"],
        num_hidden_layers=3,
        position_embedding_type="rope",
    ),
    "nemotron": tiny("nemotron", eps="norm_eps", rope=HALF_ROPE, **HEAD),
    "nemotron_h": tiny("nemotron_h", eps="layer_norm_epsilon", rope=None, **{**HEAD, **NEMOTRON_H})
    .biased("positive")
    .seeded(7),
    "nemotron_h_one_group": tiny(
        "nemotron_h",
        eps="layer_norm_epsilon",
        rope=None,
        **{**HEAD, **NEMOTRON_H, "n_groups": 1},
        time_step_min=STEPS[0],
    ).seeded(1),
    "nemotron_h_negative": tiny(
        "nemotron_h", eps="layer_norm_epsilon", rope=None, **{**HEAD, **NEMOTRON_H, "n_group": 4, "topk_group": 2}
    ).biased("negative"),
    "nemotron_h_latent": tiny(
        "nemotron_h", eps="layer_norm_epsilon", rope=None, **{**HEAD, **NEMOTRON_H, "moe_latent_size": 24}
    ).seeded(5),
    "jamba": tiny("jamba", rope=None, **JAMBA).seeded(4),
    "jamba_dense": tiny("jamba", rope=None, **{**JAMBA, "num_experts": 1}),
    "mamba": own("mamba", **MAMBA1),
    "falcon_mamba": own("falcon_mamba", **MAMBA1, mixer_rms_eps=0.02),
    "mamba2": MAMBA2,
    "mamba2_groups": MAMBA2.but(n_groups=2, time_step_limit=STEPS).seeded(5),
    "afmoe": AFMOE.biased("positive"),
    "afmoe_negative": AFMOE.biased("negative"),
    "laguna": tiny(
        "laguna",
        rope=LAGUNA_ROPE,
        **HEAD,
        **SHARED_MOE,
        sliding_window=8,
        layer_types=[FULL, SLIDE] * 2,
        num_attention_heads_per_layer=[4, 6, 4, 6],
        moe_routed_scaling_factor=2.5,
    ),
    "olmo": tiny("olmo", eps=None),
    "olmo_clip": tiny("olmo", eps=None, clip_qkv=0.8),
    "olmo2": tiny("olmo2"),
    "olmo3": tiny("olmo3", rope=OLMO_ROPE, sliding_window=8, layer_types=[SLIDE] * 3 + [FULL]),
    "olmoe": tiny("olmoe", num_experts=8, num_experts_per_tok=2, norm_topk_prob=False, clip_qkv=1.5),
    "smollm3": tiny("smollm3", no_rope_layers=[1, 1, 1, 0], use_sliding_window=False),
    "exaone4": tiny("exaone4", **HEAD, sliding_window=8, sliding_window_pattern=4),
    "exaone4_full": tiny("exaone4", rope=LLAMA3, **HEAD, sliding_window=None, layer_types=[FULL] * 4),
    "cohere2": tiny("cohere2", eps="layer_norm_eps", sliding_window=8, logit_scale=0.5),
    "ernie4_5": tiny("ernie4_5", **WIDE_HEAD),
    "ernie4_5_bias": tiny("ernie4_5", **HEAD, use_bias=True, tie_word_embeddings=False),
    "ernie4_5_moe": ERNIE_MOE.biased("positive"),
    "ernie4_5_moe_negative": ERNIE_MOE.but(
        use_bias=True,
        moe_num_shared_experts=0,
        moe_layer_interval=2,
        moe_layer_start_index=0,
        moe_layer_end_index=2,
        tie_word_embeddings=False,
    ).biased("negative"),
    "starcoder2": tiny("starcoder2", eps="norm_epsilon", sliding_window=8),
    "starcoder2_plain": tiny("starcoder2", eps="norm_epsilon", use_bias=False, tie_word_embeddings=False),
    "falcon_h1": FALCON_H1,
    "falcon_h1_bias": FALCON_H1.but(
        mamba_rms_norm=True,
        mamba_norm_before_gate=True,
        mamba_n_groups=2,
        mamba_proj_bias=True,
        projectors_bias=True,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
    ),
    "falcon_h1_normed": FALCON_H1.but(mamba_rms_norm=True, mamba_n_groups=3, time_step_limit=STEPS),
    "seed_oss": tiny("seed_oss", **HEAD, attention_out_bias=True),
    "seed_oss_plain": tiny("seed_oss", **WIDE_HEAD, attention_bias=False, mlp_bias=True),
    "helium": tiny("helium", **HEAD),
    "internlm3": tiny("internlm3", **HEAD),
    "internlm3_bias": tiny("internlm3", **WIDE_HEAD, qkv_bias=True, bias=True),
    "iquestcoder": tiny("iquestcoder", **WIDE_HEAD),
    "apertus": tiny("apertus", rope=LLAMA3, dtype="float32"),
    "apertus_bias": tiny("apertus", rope=None, attention_bias=True, tie_word_embeddings=True, dtype="float32"),
    "arcee": tiny("arcee", rope=YARN, **WIDE_HEAD),
    "hunyuan_moe": tiny(
        "hunyuan_v1_moe",
        rope={**ROPE, "rope_type": "dynamic", "alpha": 100.0, "factor": 1.0},
        **HEAD,
        num_experts=4,
        moe_topk=2,
        tie_word_embeddings=True,
    ),
    "hunyuan_moe_bias": tiny("hunyuan_v1_moe", **WIDE_HEAD, num_experts=4, moe_topk=[1, 2, 3, 2], attention_bias=True),
    "minicpm3": tiny(
        "minicpm3",
        rope={**MINICPM_LONG, "original_max_position_embeddings": 512},
        **{**LATENT_SIZES, "v_head_dim": None},
        **MINICPM,
        tie_word_embeddings=False,
    ),
    "minicpm3_whole_q": tiny(
        "minicpm3",
        rope=MINICPM_LONG,
        **{**LATENT_SIZES, "q_lora_rank": None},
        scale_depth=None,
        dim_model_base=None,
        attention_bias=True,
    ),
    "youtu": tiny("youtu", rope=MSCALE_YARN, **LATENT_SIZES, pad_token_id=None),  # its row would be zeroed there
    "youtu_bias": tiny("youtu", **LATENT_SIZES, rope_interleave=False, attention_bias=True, tie_word_embeddings=False),
    "hunyuan_dense": tiny("hunyuan_v1_dense", **WIDE_HEAD),
    "hunyuan_dense_alpha": tiny(
        "hunyuan_v1_dense",
        rope={**ROPE, "rope_type": "dynamic", "alpha": 100.0, "factor": 1.0},
        **HEAD,
        tie_word_embeddings=True,
    ),
    "glm": tiny("glm", rope=HALF_ROPE, **HEAD),
    "cohere": tiny("cohere", eps="layer_norm_eps", logit_scale=0.5),
    "cohere_norms": tiny("cohere", eps="layer_norm_eps", logit_scale=2.0, use_qk_norm=True, attention_bias=True),
    "granitemoe": tiny("granitemoe", **GRANITE, num_local_experts=4, num_experts_per_tok=2).seeded(1),
    "granitemoe_plain": tiny("granitemoe", attention_multiplier=0.25, num_local_experts=4, num_experts_per_tok=2),
    "stablelm": tiny("stablelm", eps="layer_norm_eps", rope=HALF_ROPE, use_qkv_bias=True),
    "stablelm_norms": tiny(
        "stablelm", eps="layer_norm_eps", rope=HALF_ROPE, qk_layernorm=True, use_parallel_residual=True
    ),
    "dots1": tiny("dots1", **HEAD, **UNGROUPED, sliding_window=8, max_window_layers=2).biased("positive"),
    "dots1_negative": tiny("dots1", **HEAD, **UNGROUPED, sliding_window=None, attention_bias=True).biased("negative"),
    "solar_open": tiny("solar_open", **HEAD, **UNGROUPED_ALL).biased("positive"),
    "solar_open_negative": tiny(
        "solar_open", **HEAD, **{**UNGROUPED_ALL, "n_group": 4, "topk_group": 2}, attention_bias=True
    )
    .biased("negative")
    .seeded(1),
    "exaone_moe": tiny("exaone_moe", **HEAD, **MOE, sliding_window=8, first_k_dense_replace=1).seeded(1),
    "glm4_moe_lite": tiny("glm4_moe_lite", **LATENT_SIZES, **UNGROUPED_ALL),
    "minimax_m2": tiny("minimax_m2", rope=HALF_ROPE, **HEAD, num_local_experts=8, num_experts_per_tok=2).biased(
        "positive"
    ),
    "minimax_m2_negative": tiny(
        "minimax_m2", rope=HALF_ROPE, **WIDE_HEAD, num_local_experts=8, num_experts_per_tok=2
    ).biased("negative"),
    "mellum": tiny(
        "mellum",
        rope=OLMO_ROPE,
        **HEAD,
        **MOE,
        sliding_window=8,
        layer_types=[SLIDE, FULL] * 2,
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
    ),
    "lfm2": LFM2,
    "lfm2_adjusted": LFM2.but(
        block_auto_adjust_ff_dim=True,
        block_multiple_of=8,
        block_ffn_dim_multiplier=1.3,
        conv_bias=True,
        conv_L_cache=4,
        layer_types=None,
        full_attn_idxs=[2],
    ),
    "lfm2_moe": LFM2_MOE.biased("positive"),
    "lfm2_moe_negative": LFM2_MOE.but(conv_bias=True, norm_topk_prob=False, routed_scaling_factor=1.5).biased(
        "negative"
    ),
    "olmo_hybrid": OLMO_HYBRID,
    "olmo_hybrid_turned": OLMO_HYBRID.but(
        rope_parameters=ROPE, linear_allow_neg_eigval=False, attention_bias=False, tie_word_embeddings=True
    ),
    "bamba": BAMBA,
    "bamba_bias": BAMBA.but(
        mamba_n_groups=2, mamba_proj_bias=True, attention_bias=True, mlp_bias=True, time_step_limit=STEPS
    ),
    "kimi_linear": KIMI_LINEAR.biased("positive"),
    "kimi_linear_negative": KIMI_LINEAR.but(n_group=4, topk_group=2, q_lora_rank=32).biased("negative"),
    "gemma3n": GEMMA3N,
    "gemma3n_second": GEMMA3N.but(
        altup_num_inputs=3,
        altup_active_idx=1,
        altup_correct_scale=False,
        intermediate_size=[64, 96, 80, 96, 96, 72],
        num_kv_shared_layers=0,
        attention_bias=True,
        final_logit_softcapping=20.0,
    ),
    "recurrent_gemma": RECURRENT_GEMMA,
    "recurrent_gemma_narrow": RECURRENT_GEMMA.but(
        lru_width=64,
        num_key_value_heads=2,
        attention_bias=True,
        block_types=["attention", "recurrent"],
        conv1d_width=3,
        logits_soft_cap=5.0,
        tie_word_embeddings=False,
    ),
    "bailing_hybrid": BAILING_HYBRID.biased("positive"),
    "bailing_hybrid_negative": BAILING_HYBRID.but(
        n_group=4, topk_group=2, kda_safe_gate=False, rope_parameters=YARN
    ).biased("negative"),
    "nanochat": tiny("nanochat"),
    "starcoder1": BIGCODE,
    "starcoder1_heads": BIGCODE.but(multi_query=False, scale_attn_weights=False),
    "gpt2": own("gpt2", n_embd=64, n_layer=3, n_head=4, n_positions=128),
    "gptj": own("gptj", n_embd=64, n_layer=3, n_head=4, n_positions=128, rotary_dim=8),
    "gpt_neox": NEOX,
    "gpt_neox_serial": NEOX.but(use_parallel_residual=False, hidden_act="gelu_fast"),
    "opt": OPT,
    "opt_350m": OPT.but(do_layer_norm_before=False, word_embed_proj_dim=32),
    "bitnet": tiny("bitnet", tie_word_embeddings=True),
    "bitnet_bias": tiny("bitnet", attention_bias=True),
    "bloom": own("bloom", hidden_size=72, n_layer=3, n_head=6),  # 6 heads: ALiBi slopes of two series
    "bert": replace(own("bert", "layer_norm_eps", **ENCODER, max_position_embeddings=64), encoder=True),
    "modernbert": replace(
        own(
            "modernbert",
            "norm_eps",
            **ENCODER,
            local_attention=8,
            global_attn_every_n_layers=3,
            cls_token_id=1,
            sep_token_id=2,
        ),
        encoder=True,
    ),
    **ENCODERS,
    **MLX_LM,
}
