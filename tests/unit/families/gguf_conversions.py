"""What llama.cpp's converter does to the tensors of an architecture before its map of names, and its own keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Config = dict[str, Any]
Tensors = dict[str, Array]


def gpt_oss(tensors: Tensors, c: Config) -> Tensors:
    """Rows come first; gate and up rows, which alternate, part."""
    made: Tensors = {}
    for name, value in tensors.items():
        match name.rpartition(".")[2]:
            case "sinks":
                made[f"{name}.weight"] = value
            case "gate_up_proj":
                made[name.replace("gate_up_proj", "gate_proj.weight")] = value.swapaxes(1, 2)[:, ::2]
                made[name.replace("gate_up_proj", "up_proj.weight")] = value.swapaxes(1, 2)[:, 1::2]
            case "gate_up_proj_bias":
                made[name.replace("gate_up_proj_bias", "gate_proj.bias")] = value[:, ::2]
                made[name.replace("gate_up_proj_bias", "up_proj.bias")] = value[:, 1::2]
            case "down_proj":
                made[f"{name}.weight"] = value.swapaxes(1, 2)
            case "down_proj_bias":
                made[name.replace("down_proj_bias", "down_proj.bias")] = value
            case _:
                made[name] = value
    return made


def gpt_oss_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["intermediate_size"])


def stacked(tensors: Tensors, c: Config) -> Tensors:
    """Experts become one tensor; a bias for choosing is called a bias."""
    made: Tensors = {}
    stacks: dict[str, dict[int, Array]] = {}
    for name, value in tensors.items():
        match = re.search(r"\.experts\.(\d+)\.", name)
        if match is None:
            made[name.replace("e_score_correction_bias", "e_score_correction.bias")] = value
        else:
            stacks.setdefault(name.replace(match[0], ".experts."), {})[int(match[1])] = value
    return made | {name: np.stack([found[i] for i in sorted(found)]) for name, found in stacks.items()}


def glm4_moe_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_count(c["n_shared_experts"])
    writer.add_leading_dense_block_count(c["first_k_dense_replace"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_scale(c["routed_scaling_factor"])
    writer.add_expert_weights_norm(c["norm_topk_prob"])
    writer.add_expert_group_count(c["n_group"])
    writer.add_expert_group_used_count(c["topk_group"])


def qwen2_moe(tensors: Tensors, c: Config) -> Tensors:
    return {name: value[0] if "shared_expert_gate" in name else value for name, value in stacked(tensors, c).items()}


def qwen2_moe_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])


def deepseek2(tensors: Tensors, c: Config) -> Tensors:
    """kv_b cut head by head; what makes keys is turned round."""
    made: Tensors = {}
    for name, value in stacked(tensors, c).items():
        if "kv_b_proj" not in name:
            made[name] = value
            continue
        rows = value.reshape(c["num_attention_heads"], -1, c["kv_lora_rank"])
        made[name.replace("kv_b_proj", "k_b_proj")] = rows[:, : c["qk_nope_head_dim"]].swapaxes(1, 2)
        made[name.replace("kv_b_proj", "v_b_proj")] = rows[:, c["qk_nope_head_dim"] :]
    return made


def deepseek2_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    if c["q_lora_rank"]:
        writer.add_q_lora_rank(c["q_lora_rank"])
    writer.add_kv_lora_rank(c["kv_lora_rank"])
    writer.add_key_length(c["kv_lora_rank"] + c["qk_rope_head_dim"])
    writer.add_value_length(c["kv_lora_rank"])
    writer.add_key_length_mla(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    writer.add_value_length_mla(c["v_head_dim"])
    deepseek2_older(writer, c)
    if c["n_group"]:
        writer.add_expert_group_count(c["n_group"])
        writer.add_expert_group_used_count(c["topk_group"])


def deepseek2_older(writer: gguf.GGUFWriter, c: Config) -> None:
    sigmoid = c["model_type"] != "deepseek_v2"
    writer.add_leading_dense_block_count(c["first_k_dense_replace"])
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_count(c["n_shared_experts"])
    writer.add_expert_weights_scale(c["routed_scaling_factor"])
    if sigmoid:
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_norm(c["norm_topk_prob"])
    writer.add_rope_dimension_count(c["qk_rope_head_dim"])
    if "mscale_all_dim" in c["rope_parameters"]:
        writer.add_rope_scaling_yarn_log_mul(0.1 * c["rope_parameters"]["mscale_all_dim"])


def mistral3_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    rope = c["rope_parameters"]
    if "llama_4_scaling_beta" in rope:
        writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])


def cohere2_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_logit_scale(c["logit_scale"])


def qwen3_next(tensors: Tensors, c: Config) -> Tensors:
    made: Tensors = {}
    for name, value in qwen2_moe(tensors, c).items():
        if name.endswith(".A_log"):
            made[name] = -np.exp(value)
        elif name.endswith(".dt_bias"):
            made[name.replace("dt_bias", "dt_proj.bias")] = value
        elif "conv1d" in name:
            made[name] = value[:, 0]
        elif "in_proj_qkvz" in name:
            keys, share = c["linear_num_key_heads"], c["linear_num_value_heads"] // c["linear_num_key_heads"]
            widths = np.cumsum([c["linear_key_head_dim"]] * 2 + [share * c["linear_value_head_dim"]])
            parts = np.split(value.reshape(keys, -1, value.shape[-1]), widths, axis=1)
            q, k, v, z = (part.reshape(-1, value.shape[-1]) for part in parts)
            layer = name.split(".")[2]
            made[f"blk.{layer}.attn_qkv.weight"] = np.concatenate([q, k, v])
            made[f"blk.{layer}.attn_gate.weight"] = z
        elif name.endswith("norm.weight") and "linear_attn" not in name:
            made[name] = value + 1
        else:
            made[name] = value
    return made


def qwen3_5(tensors: Tensors, c: Config) -> Tensors:
    """Value heads dealt out over the key heads."""
    keys, values, width = c["linear_num_key_heads"], c["linear_num_value_heads"], c["linear_value_head_dim"]
    own = 2 * keys * c["linear_key_head_dim"]

    def dealt(value: Array, width: int) -> Array:
        heads = value.reshape(keys, values // keys, width, *value.shape[1:])
        return heads.swapaxes(0, 1).reshape(value.shape)

    made: Tensors = {}
    for name, value in tensors.items():
        if "linear_attn" in name and "norm" not in name:
            if "in_proj_qkv" in name or "conv1d" in name:
                value = np.concatenate([value[:own], dealt(value[own:], width)])
            elif "out_proj" in name:
                value = dealt(value.T, width).T
            else:
                value = dealt(value, width if "in_proj_z" in name else 1)
        made[name] = value
    return qwen3_next(made, c)


def delta_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_ssm_conv_kernel(c["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(c["linear_key_head_dim"])
    writer.add_ssm_group_count(c["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(c["linear_num_value_heads"])
    writer.add_ssm_inner_size(c["linear_value_head_dim"] * c["linear_num_value_heads"])
    writer.add_full_attention_interval(c.get("full_attention_interval", 4))
    if "mrope_section" in c["rope_parameters"]:
        writer.add_rope_dimension_sections([*c["rope_parameters"]["mrope_section"], 0])
    if "moe_intermediate_size" in c:
        qwen2_moe_keys(writer, c)


def gemma4(tensors: Tensors, c: Config) -> Tensors:
    """The part of a full layer's head that turns is told by factors."""
    wide = next(iter(c["per_layer_config"].values()))["head_dim"]
    turning = int(wide * c["rope_parameters"]["full_attention"]["partial_rotary_factor"] / 2)
    made: Tensors = {"rope_freqs.weight": np.array([1] * turning + [1e30] * (wide // 2 - turning), np.float32)}
    for name, value in tensors.items():
        layer = name.split(".")[2]
        if name.endswith("router.scale"):
            made[f"blk.{layer}.ffn_gate_inp.scale"] = value
        elif "per_expert_scale" in name:
            made[f"blk.{layer}.ffn_down_exps.scale"] = value
        else:
            made[name if name.endswith(".weight") else f"{name}.weight"] = value
    return made


def gemma4_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    slides = [kind == "sliding_attention" for kind in c["layer_types"]]
    wide = next(iter(c["per_layer_config"].values()))
    writer.add_shared_kv_layers(c["num_kv_shared_layers"])
    writer.add_embedding_length_per_layer_input(c["hidden_size_per_layer_input"])
    writer.add_sliding_window_pattern(slides)
    writer.add_key_length(wide["head_dim"])
    writer.add_value_length(wide["head_dim"])
    writer.add_key_length_swa(c["head_dim"])
    writer.add_value_length_swa(c["head_dim"])
    if c["moe_intermediate_size"]:
        writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    if c["use_double_wide_mlp"]:
        own = len(slides) - c["num_kv_shared_layers"]
        writer.add_feed_forward_length([c["intermediate_size"] * (1 + (i >= own)) for i in range(len(slides))])
    if "num_key_value_heads" in wide:
        writer.add_head_count_kv([c["num_key_value_heads"] if s else wide["num_key_value_heads"] for s in slides])
    writer.add_rope_dimension_count(wide["head_dim"])
    writer.add_rope_dimension_count_swa(c["head_dim"])
    writer.add_rope_freq_base_swa(c["rope_parameters"]["sliding_attention"]["rope_theta"])
    writer.add_final_logit_softcapping(c["final_logit_softcapping"])


def granite_hybrid(tensors: Tensors, c: Config) -> Tensors:
    """Halves apart, Mamba's vectors as columns, norms by groups; queries and keys permuted though nothing turns."""
    made: Tensors = {}
    for name, value in tensors.items():
        layer, experts = "".join(name.split(".")[2:3]), bool(c["num_local_experts"])
        if "input_linear" in name:
            kind = "_exps" if "block_sparse" in name else "_shexp" if experts else ""
            gate, up = np.split(value, 2, axis=-2)
            made |= {f"blk.{layer}.ffn_gate{kind}.weight": gate, f"blk.{layer}.ffn_up{kind}.weight": up}
        elif "shared_mlp.output_linear" in name and not experts:
            made[f"blk.{layer}.ffn_down.weight"] = value
        elif name.endswith((".A_log", ".D")):
            made[name] = (-np.exp(value) if name.endswith("A_log") else value)[:, None]
        elif name.endswith(".dt_bias"):
            made[name.replace("dt_bias", "dt_proj.bias")] = value
        elif "conv1d.weight" in name:
            made[name] = value[:, 0]
        elif "mamba.norm" in name:
            made[name] = value.reshape(c["mamba_n_groups"], -1)
        else:
            made[name] = value
    return made


def granite_hybrid_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_attention_scale(c["attention_multiplier"])
    writer.add_embedding_scale(c["embedding_multiplier"])
    writer.add_residual_scale(c["residual_multiplier"])
    writer.add_logit_scale(c["logits_scaling"])
    writer.add_expert_shared_feed_forward_length(c["shared_intermediate_size"])
    writer.add_ssm_conv_kernel(c["mamba_d_conv"])
    writer.add_ssm_state_size(c["mamba_d_state"])
    writer.add_ssm_group_count(c["mamba_n_groups"])
    writer.add_ssm_inner_size(c["mamba_expand"] * c["hidden_size"])
    writer.add_ssm_time_step_rank(c["mamba_n_heads"])
    heads = c["num_key_value_heads"]
    writer.add_head_count_kv([heads if kind == "full_attention" else 0 for kind in c["layer_types"]])
    writer.add_rope_scaling_finetuned(False)


def mamba(tensors: Tensors, c: Config) -> Tensors:
    """Of both generations, alone or beside attention. Mamba 2's vectors become columns, its norm goes by groups."""
    made: Tensors = {}
    second = any(name.endswith(".dt_bias") for name in tensors)
    for whole, value in stacked(tensors, c).items():
        name = re.sub(r"^(?:model|backbone)(.*)\.(?:feed_forward|mixer)\.experts", r"model\1.mlp.experts", whole)
        if name.endswith((".A_log", ".D")):
            value = -np.exp(value) if name.endswith("A_log") else value
            made[name] = value[:, None] if second and value.ndim == 1 else value
        elif name.endswith(".dt_bias"):
            made[name.replace("dt_bias", "dt.bias")] = value
        elif name.endswith("conv1d.weight"):
            made[name] = value[:, 0]
        elif name.endswith("mixer.norm.weight"):
            made[name] = value.reshape(c["n_groups"], -1)
        else:
            made[name] = value
    return made


def mamba1_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_ssm_conv_kernel(c["conv_kernel"])
    writer.add_ssm_inner_size(c["intermediate_size"])
    writer.add_ssm_state_size(c["state_size"])
    writer.add_ssm_time_step_rank(c["time_step_rank"])
    writer.add_ssm_dt_b_c_rms(c["model_type"] == "falcon_mamba")


def mamba2_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_ssm_conv_kernel(c["conv_kernel"])
    writer.add_ssm_inner_size(c["expand"] * c["hidden_size"])
    writer.add_ssm_state_size(c["state_size"])
    writer.add_ssm_time_step_rank(c["num_heads"])
    writer.add_ssm_group_count(c["n_groups"])


def jamba_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    layers, period, offset = c["num_hidden_layers"], c["attn_layer_period"], c["attn_layer_offset"]
    writer.add_head_count_kv([c["num_key_value_heads"] * (i % period == offset) for i in range(layers)])
    writer.add_ssm_conv_kernel(c["mamba_d_conv"])
    writer.add_ssm_inner_size(c["mamba_expand"] * c["hidden_size"])
    writer.add_ssm_state_size(c["mamba_d_state"])
    writer.add_ssm_time_step_rank(c["mamba_dt_rank"])


def nemotron_h_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    kinds = c["layers_block_type"]
    writer.add_head_count_kv([c["num_key_value_heads"] * (kind == "full_attention") for kind in kinds])
    widths = {"mlp": c["intermediate_size"], "moe": c["moe_intermediate_size"]}
    writer.add_feed_forward_length([widths.get(kind, 0) for kind in kinds])
    writer.add_ssm_conv_kernel(c["conv_kernel"])
    writer.add_ssm_inner_size(c["mamba_num_heads"] * c["mamba_head_dim"])
    writer.add_ssm_state_size(c["ssm_state_size"])
    writer.add_ssm_time_step_rank(c["mamba_num_heads"])
    writer.add_ssm_group_count(c["n_groups"])
    writer.add_layer_norm_rms_eps(c["layer_norm_epsilon"])
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(c["moe_shared_expert_intermediate_size"])
    writer.add_expert_shared_count(c["n_shared_experts"])
    writer.add_expert_weights_norm(c["norm_topk_prob"])
    writer.add_expert_weights_scale(c["routed_scaling_factor"])
    writer.add_expert_group_count(c["n_group"])
    if c["moe_latent_size"]:
        writer.add_moe_latent_size(c["moe_latent_size"])


XIELU = ("alpha_p", "alpha_n", "beta", "eps")


def apertus(tensors: Tensors, c: Config) -> Tensors:
    """What the activation learned becomes keys."""
    c["xielu"] = {x: [float(v.item()) for n, v in sorted(tensors.items()) if n.endswith(f"act_fn.{x}")] for x in XIELU}
    return {name: value for name, value in tensors.items() if ".act_fn." not in name}


def apertus_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    for name in XIELU:
        getattr(writer, f"add_xielu_{name}")(c["xielu"][name])


def exaone4_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    if c["sliding_window"]:
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in c["layer_types"]])


def exaone_moe_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    exaone4_keys(writer, c)
    deepseek_keys(writer, {**c, "n_shared_experts": c["num_shared_experts"]})
    writer.add_expert_shared_feed_forward_length(c["moe_intermediate_size"] * c["num_shared_experts"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def deepseek_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_count(c["n_shared_experts"])
    writer.add_leading_dense_block_count(c["first_k_dense_replace"])
    writer.add_expert_weights_scale(c.get("routed_scaling_factor", 1.0))
    writer.add_expert_weights_norm(c["norm_topk_prob"])


def dots1_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    deepseek_keys(writer, c)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def bailing(tensors: Tensors, c: Config) -> Tensors:
    """The first one's queries, keys and values part, and are permuted."""
    made: Tensors = {}
    heads, shared = c["num_attention_heads"], c["num_key_value_heads"]
    for name, value in stacked(tensors, c).items():
        if "query_key_value.weight" not in name:
            made[name.replace("attention.dense", "self_attn.o_proj")] = value
            continue
        size = value.shape[0] // (heads + 2 * shared)
        parts = np.split(value, [heads * size, (heads + shared) * size])
        for part, rows, count in zip("qkv", parts, (heads, shared, 0), strict=True):
            turned = rows.reshape(count, 2, -1, rows.shape[-1]).swapaxes(1, 2) if count else rows
            made[name.replace("attention.query_key_value", f"self_attn.{part}_proj")] = turned.reshape(rows.shape)
    return made


def bailing_2(tensors: Tensors, c: Config) -> Tensors:
    return {name.replace(".expert_bias", ".expert_bias.bias"): value for name, value in stacked(tensors, c).items()}


def bailing_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    deepseek_keys(writer, {**c, "n_shared_experts": c["num_shared_experts"]})
    if c.get("score_function") == "sigmoid":
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_shared_feed_forward_length(c["moe_shared_expert_intermediate_size"])
        writer.add_expert_group_count(c["n_group"])
        writer.add_expert_group_used_count(c["topk_group"])


def hunyuan_moe_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_shared_feed_forward_length(c["intermediate_size"])
    writer.add_expert_feed_forward_length(c["intermediate_size"])
    writer.add_expert_shared_count(1)
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_rope_scaling_factor(1)
    writer.add_rope_scaling_orig_ctx_len(1024)


def internlm2(tensors: Tensors, c: Config) -> Tensors:
    """Each group's queries, key and value part; queries and keys are permuted."""
    made: Tensors = {}
    heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
    for name, value in tensors.items():
        if "wqkv" not in name:
            made[name] = value
            continue
        rows = value.reshape(groups, heads // groups + 2, -1, c["hidden_size"])
        for part, of, count in (("q", rows[:, :-2], heads), ("k", rows[:, -2], groups), ("v", rows[:, -1], 0)):
            flat = of.reshape(-1, c["hidden_size"])
            turned = flat.reshape(count, 2, -1, c["hidden_size"]).swapaxes(1, 2) if count else flat
            made[name.replace("attention.wqkv", f"self_attn.{part}_proj")] = turned.reshape(flat.shape)
    return made


def minicpm_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_embedding_scale(float(c["scale_emb"]))
    writer.add_residual_scale(c["scale_depth"] / c["num_hidden_layers"] ** 0.5)
    writer.add_logit_scale(c["hidden_size"] / c["dim_model_base"])


def minicpm3(tensors: Tensors, c: Config) -> Tensors:
    """Its scales have no keys and are 12, 1.4 and 256, so weights carry the difference."""
    carried = {
        r"embed_tokens": c["scale_emb"] / 12,
        r"\.(o_proj|down_proj)\.": c["scale_depth"] / 1.4,
        r"lm_head": c["dim_model_base"] / 256,
    }
    return {
        name: value * np.float32(next((by for place, by in carried.items() if re.search(place, name)), 1.0))
        for name, value in tensors.items()
    }


def minicpm3_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_q_lora_rank(c["q_lora_rank"])
    writer.add_kv_lora_rank(c["kv_lora_rank"])
    writer.add_key_length(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    writer.add_rope_dimension_count(c["qk_rope_head_dim"])


def stablelm(tensors: Tensors, c: Config) -> Tensors:
    """The norms of a layer's heads become one tensor."""
    made: Tensors = {}
    stacks: dict[str, dict[int, Array]] = {}
    for name, value in tensors.items():
        match = re.search(r"\.norms\.(\d+)\.", name)
        if match is None:
            made[name] = value
        else:
            stacks.setdefault(name.replace(match[0], "."), {})[int(match[1])] = value
    return made | {name: np.stack([found[i] for i in sorted(found)]) for name, found in stacks.items()}


def stablelm_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_parallel_residual(True)  # which converters write where a config is silent


def cohere_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_logit_scale(c["logit_scale"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


def ernie_moe(tensors: Tensors, c: Config) -> Tensors:
    return {name: value[0] if "moe_statics" in name else value for name, value in stacked(tensors, c).items()}


def ernie_moe_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_interleave_moe_layer_step(c["moe_layer_interval"])
    writer.add_leading_dense_block_count(c["moe_layer_start_index"])
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_expert_shared_count(c["moe_num_shared_experts"])
    writer.add_expert_shared_feed_forward_length(c["intermediate_size"] // c["num_key_value_heads"])


def granite_moe(tensors: Tensors, c: Config) -> Tensors:
    """Gate and up rows part."""
    made: Tensors = {}
    for name, value in tensors.items():
        if "input_linear" not in name:
            made[name] = value
            continue
        gate, up = np.split(value, 2, axis=-2)
        layer = name.split(".")[2]
        made |= {f"blk.{layer}.ffn_gate_exps.weight": gate, f"blk.{layer}.ffn_up_exps.weight": up}
    return made


def minimax_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["intermediate_size"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


CONVERTED: dict[str, Callable[[Tensors, Config], Tensors]] = {
    "apertus": apertus,
    "bailingmoe": bailing,
    "bailingmoe2": bailing_2,
    "deepseek": stacked,
    "dots1": stacked,
    "ernie4_5-moe": ernie_moe,
    "exaone-moe": stacked,
    "granitemoe": granite_moe,
    "hunyuan-moe": stacked,
    "internlm2": internlm2,
    "minicpm3": minicpm3,
    "minimax-m2": stacked,
    "stablelm": stablelm,
    "gpt-oss": gpt_oss,
    "glm4moe": stacked,
    "olmoe": stacked,
    "deepseek2": deepseek2,
    "granitehybrid": granite_hybrid,
    "gemma4": gemma4,
    "qwen3next": qwen3_next,
    "qwen35": qwen3_5,
    "qwen35moe": qwen3_5,
    "qwen2moe": qwen2_moe,
    "mamba": mamba,
    "mamba2": mamba,
    "jamba": mamba,
    "nemotron_h_moe": mamba,
}
KEYS: dict[str, Callable[[gguf.GGUFWriter, Config], None]] = {
    "apertus": apertus_keys,
    "bailingmoe": bailing_keys,
    "bailingmoe2": bailing_keys,
    "command-r": cohere_keys,
    "deepseek": deepseek_keys,
    "dots1": dots1_keys,
    "ernie4_5-moe": ernie_moe_keys,
    "exaone-moe": exaone_moe_keys,
    "exaone4": exaone4_keys,
    "hunyuan-moe": hunyuan_moe_keys,
    "minicpm": minicpm_keys,
    "minicpm3": minicpm3_keys,
    "minimax-m2": minimax_keys,
    "stablelm": stablelm_keys,
    "gpt-oss": gpt_oss_keys,
    "glm4moe": glm4_moe_keys,
    "qwen2moe": qwen2_moe_keys,
    "deepseek2": deepseek2_keys,
    "granitehybrid": granite_hybrid_keys,
    "gemma4": gemma4_keys,
    "qwen3next": delta_keys,
    "qwen35": delta_keys,
    "qwen35moe": delta_keys,
    "mistral3": mistral3_keys,
    "cohere2": cohere2_keys,
    "mamba": mamba1_keys,
    "mamba2": mamba2_keys,
    "jamba": jamba_keys,
    "nemotron_h_moe": nemotron_h_keys,
}
