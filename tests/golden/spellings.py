"""The same configs as checkpoints made before transformers 5 spell them, family by family.

`older` turns what transformers 5 writes into what the hub holds: `rope_theta` and `rope_scaling`, layer
patterns instead of lists, other names for the same number, and the keys that those files carry along
without any meaning for the answer. Knows nothing of mlxrun.
"""

from __future__ import annotations

from typing import Any

from .case import FULL, SLIDE
from .mlx_lm_cases import MLX_LM

Config = dict[str, Any]

# Families first released with transformers 5: the spelling of `make.py` is the only one.
NO_OLDER = {"laguna", "mellum", "ministral3", "mistral4", "olmo_hybrid", "qwen3_5_text", "qwen3_5_moe_text"}
CALLED_TYPE = {"deepseek_v2", "deepseek_v3", "deepseek_v32", "hunyuan_v1_dense", "llama", "phi3", "phimoe"}
NO_OLDER |= {case.model_type for case in MLX_LM.values()}  # as their authors write it, which is the older one
CALLED_TYPE = {
    "hunyuan_v1_moe",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "hunyuan_v1_dense",
    "llama",
    "phi3",
    "phimoe",
    "youtu",
}
NEW_ROPE = {"gemma4_text", "gemma4_unified_text", "glm_moe_dsa"}  # older but for rope_parameters

DEEPSEEK_ADDS: Config = {
    "aux_loss_alpha": 0.001,
    "ep_size": 1,
    "moe_layer_freq": 1,
    "scoring_func": "sigmoid",
    "seq_aux": True,
    "topk_method": "noaux_tc",
}
DEEPSEEK_DROPS = "head_dim qk_head_dim rope_interleave layer_types mlp_layer_types mlp_bias"
STEPS: Config = {"rms_norm": True, "time_step_init_scheme": "random", "time_step_scale": 1.0}

# keys that the older file has and the newer one has not
ADDS: dict[str, Config] = {
    "afmoe": {
        "load_balance_coeff": 0.001,
        "n_group": 1,
        "num_expert_groups": 1,
        "num_limited_groups": 1,
        "route_norm": True,
        "score_func": "sigmoid",
        "topk_group": 1,
        "use_grouped_mm": True,
    },
    "bailing_hybrid": {
        "first_k_dense_replace": 1,
        "moe_router_enable_expert_bias": True,
        "moe_shared_expert_intermediate_size": 32,
        "no_kda_lora": True,
        "rope_interleave": True,
        "score_function": "sigmoid",
        "use_bias": False,
        "use_qkv_bias": False,
    },
    "bamba": {"attn_rotary_emb": 8},
    "apertus": {"mlp_bias": False, "post_norm": False, "qk_norm": True},
    "bert": {"gradient_checkpointing": False, "position_embedding_type": "absolute"},
    "bloom": {
        "attention_softmax_in_fp32": True,
        "masked_softmax_fusion": True,
        "n_inner": None,
        "offset_alibi": 100,
        "seq_length": 128,
        "skip_bias_add": True,
        "skip_bias_add_qkv": False,
        "unk_token_id": 0,
    },
    "cohere2": {
        "layer_switch": 4,
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "rotary_pct": 1.0,
        "sliding_window_pattern": 4,
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
        "use_qk_norm": False,
    },
    "deepseek_v2": {**DEEPSEEK_ADDS, "n_group": 1, "scoring_func": "softmax", "topk_group": 1},
    "deepseek_v3": DEEPSEEK_ADDS,
    "deepseek_v32": DEEPSEEK_ADDS,
    "dots1": {"moe_layer_freq": 1, "scoring_func": "noaux_tc"},
    "ernie4_5_moe": {"moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_use_aux_free": True},
    "exaone_moe": {"is_moe_layer": [False, True, True, True], "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "falcon_h1": {
        "mamba_use_mlp": True,
        "mlp_expansion_factor": 8,
        "time_step_floor": 0.0001,
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "time_step_rank": "auto",
    },
    "gemma2": {"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh"},
    "gemma3_text": {"cache_implementation": "hybrid", "sliding_window_pattern": 6},
    "glm4_moe_lite": {"first_k_dense_replace": 1, "partial_rotary_factor": 1.0, "topk_method": "noaux_tc"},
    "glm_moe_dsa": {**DEEPSEEK_ADDS, "indexer_rope_interleave": True},
    "gpt2": {"n_ctx": 128, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
    "gpt_bigcode": {
        "inference_runner": 0,
        "max_batch_size": None,
        "pad_key_length": True,
        "pre_allocate_kv_cache": False,
        "summary_first_dropout": 0.1,
        "validate_runner_input": True,
    },
    "gpt_oss": {"experts_per_token": 2, "initial_context_length": 4096, "output_router_logits": False},
    "gptj": {"rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False},
    "granitemoehybrid": {"init_method": "mup", "normalization_function": "rmsnorm"},
    "jamba": {"calc_logits_for_entire_prompt": False, "num_logits_to_keep": 1, "sliding_window": None},
    "hunyuan_v1_moe": {
        "attention_head_dim": 16,
        "cla_share_factor": 2,
        "moe_drop_tokens": False,
        "moe_intermediate_size": [96] * 4,
        "moe_layer_num_skipped": 0,
        "norm_topk_prob": True,
        "num_shared_expert": [1] * 4,
        "use_cla": False,
        "use_mixed_mlp_moe": True,
        "use_qk_norm": True,
    },
    "hunyuan_v1_dense": {"attention_head_dim": 16, "cla_share_factor": 2, "use_cla": False, "use_qk_norm": True},
    "kimi_linear": {
        "first_k_dense_replace": 1,
        "mla_use_nope": True,
        "moe_layer_freq": 1,
        "moe_router_activation_func": "sigmoid",
        "num_nextn_predict_layers": 1,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "use_grouped_topk": True,
    },
    "lfm2": {
        "block_dim": 64,
        "block_ff_dim": 96,
        "block_mlp_init_scale": 1.0,
        "block_norm_eps": 0.01,
        "block_out_init_scale": 1.0,
        "block_use_swiglu": True,
        "block_use_xavier_init": True,
        "conv_dim": 64,
        "conv_dim_out": 64,
        "conv_use_xavier_init": True,
        "num_heads": 4,
        "use_pos_enc": True,
    },
    "minimax_m2": {
        "attn_type_list": [1, 1, 1, 1],
        "mtp_transformer_layers": 1,
        "num_mtp_modules": 3,
        "qk_norm_type": "per_layer",
        "scoring_func": "sigmoid",
        "shared_intermediate_size": 0,
        "use_mtp": True,
        "use_qk_norm": True,
        "use_routing_bias": True,
    },
    "mamba": {
        **STEPS,
        "d_inner": 128,
        "d_model": 64,
        "fused_add_norm": True,
        "intermediate_size": 128,
        "n_layer": 3,
        "pad_vocab_size_multiple": 8,
        "ssm_cfg": {},
    },
    "falcon_mamba": {**STEPS, "intermediate_size": 128},
    "mamba2": {**STEPS, "intermediate_size": 128, "norm_before_gate": True},
    "modernbert": {"position_embedding_type": "absolute", "layer_norm_eps": 0.01, "gradient_checkpointing": False},
    "nemotron_h": {"rope_theta": 10000, "partial_rotary_factor": 1.0, "norm_eps": 0.01, "attention_head_dim": 16},
    "opt": {"activation_dropout": 0.0, "prefix": "</s>"},
    "qwen2": {"sliding_window": 8},
    "qwen2_moe": {"sliding_window": 32768},
    "qwen3_next": {"full_attention_interval": 4},
    "solar_open": {
        "first_k_dense_replace": 0,
        "partial_rotary_factor": 1.0,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "use_qk_norm": False,
    },
    "starcoder2": {"mlp_type": "default", "norm_type": "layer_norm"},
    "smollm3": {"max_window_layers": 28},
}

# keys that the newer file has and the older one has not
DROPS: dict[str, str] = {
    "bailing_hybrid": "layer_types linear_conv_kernel_dim linear_head_dim linear_num_heads mlp_layer_types qk_head_dim"
    " model_max_length moe_renormalize num_expert_group num_experts_per_token",
    "bamba": "partial_rotary_factor",
    "bloom": "hidden_size n_head",
    "cohere2": "layer_types",
    "deepseek_v2": DEEPSEEK_DROPS,
    "deepseek_v3": DEEPSEEK_DROPS,
    "deepseek_v32": DEEPSEEK_DROPS,
    "gemma2": "layer_types use_bidirectional_attention",
    "gemma3_text": "layer_types _sliding_window_pattern use_bidirectional_attention",
    "gemma4_text": "per_layer_config",
    "gemma4_unified_text": "per_layer_config",
    "glm4_moe_lite": DEEPSEEK_DROPS,
    "gpt_oss": "swiglu_alpha",
    "internlm3": "attention_bias mlp_bias",
    "kimi_linear": "linear_conv_kernel_dim linear_head_dim linear_num_heads layer_types mlp_layer_types qk_head_dim",
    "llama4_text": "layer_types moe_layers",
    "minimax_m2": "partial_rotary_factor",
    "modernbert": "layer_types",
    "nemotron_h": "layers_block_type mtp_layers_block_type",
    "qwen2": "layer_types",
    "qwen2_moe": "layer_types qkv_bias",
    "qwen3": "layer_types",
    "qwen3_moe": "num_local_experts",
    "qwen3_next": "layer_types",
}
PATTERN = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}
HYBRID = {"linear_attention": "mamba", "full_attention": "attention"}


def older(config: Config) -> Config:
    """Raises KeyError for a family that has no older spelling."""
    kind = config["model_type"]
    if kind in NO_OLDER:
        raise KeyError(f"{kind} has no older spelling")
    c = {key: value for key, value in config.items() if key not in ("dtype", "rope_parameters")}
    c |= {"torch_dtype": "float32", "transformers_version": "4.57.1"}
    if kind in NEW_ROPE:
        c["rope_parameters"] = config["rope_parameters"]
    elif config.get("rope_parameters"):
        c |= older_rope(config["rope_parameters"], kind)
    c |= named_otherwise(config, kind)
    for key in DROPS.get(kind, "").split():
        if key != "use_bidirectional_attention" or not c.get(key):  # written where it is meant
            c.pop(key, None)
    added = {key: value for key, value in ADDS.get(kind, {}).items() if c.get(key) is None}
    return untagged({**c, **added})


def older_rope(rope: Config, kind: str) -> Config:
    if kind == "modernbert":
        return {"global_rope_theta": rope[FULL]["rope_theta"], "local_rope_theta": rope[SLIDE]["rope_theta"]}
    full = dict(rope.get(FULL, rope))
    theta, scaling = full.pop("rope_theta"), full.pop("rope_type")
    part = full.pop("partial_rotary_factor", None)
    spelled = "type" if kind in CALLED_TYPE else "rope_type"
    if scaling == "llama3":
        spelled = "rope_type"
    older: Config = {"rope_theta": theta, "rope_scaling": None if scaling == "default" else {spelled: scaling, **full}}
    if part is not None:
        older["partial_rotary_factor"] = part
    if kind == "gpt_neox":
        return {"rotary_emb_base": theta, "rotary_pct": part}
    if kind in ("gemma3_text", "gemma3n_text"):
        older["rope_local_base_freq"] = rope[SLIDE]["rope_theta"]
    if kind in ("phi3", "phimoe") and older["rope_scaling"]:
        older["original_max_position_embeddings"] = older["rope_scaling"]["original_max_position_embeddings"]
        if kind == "phi3":
            del older["rope_scaling"]["original_max_position_embeddings"]
    return older


def named_otherwise(config: Config, kind: str) -> Config:
    """The same number or list under the name that the family's older files use."""
    if kind == "bailing_hybrid":
        return {"head_dim": config["linear_head_dim"], **{name: config[newer] for name, newer in BAILING.items()}}
    if kind == "bloom":
        return {"n_embed": config["hidden_size"], "num_attention_heads": config["n_head"]}
    if kind == "deepseek_v3" and config["n_group"] == 1:
        return {"model_type": "kimi_k2"}
    if kind == "exaone4":
        return {"sliding_window_pattern": "LLLG" if config["sliding_window"] else None}
    if kind in ("gemma4_text", "gemma4_unified_text"):
        changed = config["per_layer_config"]["2"]
        heads = changed.get("num_key_value_heads")
        return {"global_head_dim": changed["head_dim"], "num_global_key_value_heads": heads}
    if kind == "granitemoehybrid":
        return {"layer_types": [HYBRID[kind] for kind in config["layer_types"]]}
    if kind == "internlm3":
        return {"qkv_bias": config["attention_bias"], "bias": config["mlp_bias"]}
    if kind == "kimi_linear":
        return {"linear_attn_config": kimi_delta(config)}
    if kind == "minimax_m2":
        return {"rotary_dim": config["head_dim"] // 2}
    if kind == "llama4_text":
        return {"no_rope_layers": [], "for_llm_compressor": False}
    if kind == "nemotron_h":
        types = config["layers_block_type"]
        return {"hybrid_override_pattern": "".join(map(PATTERN.__getitem__, types)), "num_hidden_layers": len(types)}
    if kind == "qwen3_moe":
        return {"num_experts": config["num_local_experts"]}
    return {}


BAILING = {
    "n_group": "num_expert_group",
    "norm_topk_prob": "moe_renormalize",
    "num_experts_per_tok": "num_experts_per_token",
    "max_position_embeddings": "model_max_length",
}


def kimi_delta(config: Config) -> Config:
    """Layers are counted from one."""
    types = enumerate(config["layer_types"], 1)
    kinds: dict[str, list[int]] = {FULL: [], "linear_attention": []}
    for i, kind in types:
        kinds[kind].append(i)
    return {
        "full_attn_layers": kinds[FULL],
        "head_dim": config["linear_head_dim"],
        "kda_layers": kinds["linear_attention"],
        "num_heads": config["linear_num_heads"],
        "short_conv_kernel_size": config["linear_conv_kernel_dim"],
    }


def untagged(value: Any) -> Any:
    """{"__float__": "Infinity"} as Python's json has always written it."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: untagged(inner) for key, inner in value.items()}
    return [untagged(inner) for inner in value] if isinstance(value, list) else value
