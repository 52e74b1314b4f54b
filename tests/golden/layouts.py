"""The other layouts that a family's tensors are found in, as functions from checkpoint to checkpoint.

What a layout holds beyond the language model (a vision tower, a prediction layer, a stored mask) is made up
here, and a loader has to leave it out. Knows nothing of mlxrun.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint, Weights
from .encoder_layouts import ENCODER_LAYOUTS
from .spellings import NO_OLDER, older

Layout = Callable[[Checkpoint], Checkpoint]


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def stored(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A tensor without meaning, of the type that it has in real files."""
    if name.endswith("position_ids"):
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    if name.endswith(("attn.bias", "attention.bias")):  # the causal mask
        return np.tril(np.ones(shape, dtype=bool))
    return noise(*shape)


def renamed(weights: Weights, *rules: tuple[str, str]) -> Weights:
    out: Weights = {}
    for name, value in weights.items():
        for pattern, name_after in rules:
            name = re.sub(pattern, name_after, name)
        out[name] = value
    return out


# what transformers 5 saves when asked not to go back to the original names
IN_MEMORY: dict[str, tuple[tuple[str, str], ...]] = {
    "mixtral": ((r"\.block_sparse_moe\.", ".mlp."),),
    "phimoe": ((r"\.block_sparse_moe\.gate\.", ".mlp.router."), (r"\.block_sparse_moe\.", ".mlp.")),
    "granitemoe": (
        (r"\.block_sparse_moe\.input_linear\.weight$", ".block_sparse_moe.experts.gate_up_proj"),
        (r"\.block_sparse_moe\.output_linear\.weight$", ".block_sparse_moe.experts.down_proj"),
        (r"\.router\.layer\.", ".router."),
    ),
    "granitemoehybrid": (
        (r"\.block_sparse_moe\.input_linear\.weight$", ".block_sparse_moe.experts.gate_up_proj"),
        (r"\.block_sparse_moe\.output_linear\.weight$", ".block_sparse_moe.experts.down_proj"),
        (r"\.router\.layer\.", ".router."),
    ),
    "minimax_m2": ((r"\.block_sparse_moe\.", ".mlp."),),
    "nemotron_h": ((r"^backbone\.", "model."),),
    "laguna": (
        (r"\.experts\.e_score_correction_bias$", ".gate.e_score_correction_bias"),
        (r"\.shared_expert\.", ".shared_experts."),
    ),
    "bailing_hybrid": (
        (r"^model\.word_embeddings\.", "model.embed_tokens."),
        (r"\.attention\.dense\.", ".attention.o_proj."),
        (r"\.attention\.(f_proj|dt_bias|A_log)", r".attention.forget_gate.\1"),
        (r"\.attention\.", ".self_attn."),
        (r"\.gate\.expert_bias$", ".gate.e_score_correction_bias"),
    ),
    "kimi_linear": (
        (r"\.block_sparse_moe\.", ".mlp."),
        (r"\.self_attn\.(f_[ab]_proj|dt_bias|A_log)", r".self_attn.forget_gate.\1"),
    ),
    "gpt_neox": ((r"^embed_out\.", "lm_head."),),
}


def in_memory(checkpoint: Checkpoint) -> Checkpoint:
    """Experts stacked, gate above up, and the names that the modules have."""
    experts: dict[str, dict[str, dict[int, NDArray[Any]]]] = defaultdict(lambda: defaultdict(dict))
    weights: Weights = {}
    part_of = {"w1": "gate", "w2": "down", "w3": "up", "gate_proj": "gate", "down_proj": "down", "up_proj": "up"}
    for name, value in checkpoint.weights.items():
        found = re.match(r"(.*\.experts)\.(\d+)\.(\w+)\.weight$", name)
        if found:
            experts[found[1]][part_of[found[3]]][int(found[2])] = value
        else:
            weights[name] = value
    for prefix, parts in experts.items():
        stacked = {part: np.stack([each[e] for e in sorted(each)]) for part, each in parts.items()}
        weights[f"{prefix}.down_proj"] = stacked["down"]
        if "gate" in stacked:
            weights[f"{prefix}.gate_up_proj"] = np.concatenate([stacked["gate"], stacked["up"]], axis=1)
        else:
            weights[f"{prefix}.up_proj"] = stacked["up"]
    return replace(checkpoint, weights=renamed(weights, *IN_MEMORY.get(checkpoint.config["model_type"], ())))


def in_older_words(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, config=older(checkpoint.config))


def spelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """As old as the family can be."""
    return dict(config) if config["model_type"] in NO_OLDER else older(dict(config))


def inside(outer: str, *rules: tuple[str, str], beside: str = "", **text: Any) -> Layout:
    """The text half of a multimodal checkpoint: its config under text_config, its names by `rules`."""

    def wrap(checkpoint: Checkpoint) -> Checkpoint:
        config = {
            "model_type": outer,
            "architectures": [f"{outer}_for_conditional_generation"],
            "image_token_id": 3,
            "text_config": {**spelled(checkpoint.config), **text},
            "vision_config": {"model_type": f"{outer}_vision", "hidden_size": 8, "depth": 1},
            "torch_dtype": "float32",
            "transformers_version": "4.57.1",
        }
        other = {name: noise(8, 4) for name in beside.split()}
        return replace(checkpoint, config=config, weights={**renamed(checkpoint.weights, *rules), **other})

    return wrap


def under(prefix: str, *, head: str = "lm_head.") -> tuple[tuple[str, str], ...]:
    return (r"^lm_head\.", head), (r"^model\.", prefix)


def with_more(**tensors: tuple[int, ...]) -> Layout:
    """Tensors that mean nothing to the answer; __ stands for a dot in their names."""

    def add(checkpoint: Checkpoint) -> Checkpoint:
        dotted = {name.replace("__", "."): shape for name, shape in tensors.items()}
        extra = {name: stored(name, shape) for name, shape in dotted.items()}
        return replace(checkpoint, config=spelled(checkpoint.config), weights={**checkpoint.weights, **extra})

    return add


def named(*rules: tuple[str, str], **more: tuple[int, ...]) -> Layout:
    def rename(checkpoint: Checkpoint) -> Checkpoint:
        added = with_more(**more)(checkpoint)
        return replace(added, weights=renamed(added.weights, *rules))

    return rename


def one_convolution(checkpoint: Checkpoint) -> Checkpoint:
    """The kernels of queries, keys and values in one, as transformers 5 holds them."""
    weights = dict(checkpoint.weights)
    for name in checkpoint.weights:
        if name.endswith(".q_conv1d.weight"):
            parts = [weights.pop(name.replace("q_conv", f"{x}_conv")) for x in "qkv"]
            weights[name.replace("q_conv", "conv")] = np.concatenate(parts)
    return replace(checkpoint, weights=weights)


def prediction_layer(checkpoint: Checkpoint) -> Checkpoint:
    """A layer more than the config counts, for predicting a second token, as DeepSeek and GLM ship it."""
    config = spelled(checkpoint.config)
    count, dim = config["num_hidden_layers"], config["hidden_size"]
    last, extra = f"model.layers.{count - 1}.", f"model.layers.{count}."
    more = {extra + name[len(last) :]: v for name, v in checkpoint.weights.items() if name.startswith(last)}
    more |= {f"{extra}{name}.weight": noise(dim) for name in ("enorm", "hnorm", "shared_head.norm")}
    more |= {f"{extra}eh_proj.weight": noise(dim, 2 * dim), f"{extra}embed_tokens.weight": noise(48, dim)}
    more[f"{extra}shared_head.head.weight"] = noise(48, dim)
    config["num_nextn_predict_layers"] = 1
    return replace(checkpoint, config=config, weights={**checkpoint.weights, **more})


def head_as_well(checkpoint: Checkpoint) -> Checkpoint:
    """Tied, and the file holds the same matrix a second time."""
    (embedding,) = (
        name for name in checkpoint.weights if re.search(r"(embed_tokens|wte|word_embeddings)\.weight$", name)
    )
    again = {"lm_head.weight": checkpoint.weights[embedding].copy()}
    return replace(checkpoint, config=spelled(checkpoint.config), weights={**checkpoint.weights, **again})


def lent_keys_stored(checkpoint: Checkpoint) -> Checkpoint:
    """Layers that borrow keys and values have weights for their own all the same."""
    config = checkpoint.config
    count, lent = config["num_hidden_layers"], config["num_kv_shared_layers"]
    more: Weights = {}
    for layer in range(count - lent, count):
        full = config["layer_types"][layer] == "full_attention"
        wider = full and "per_layer_config" in config
        size = config["per_layer_config"][str(layer)]["head_dim"] if wider else config["head_dim"]
        own = f"model.layers.{layer}.self_attn."
        rows = config["num_key_value_heads"] * size
        more |= {f"{own}{p}_proj.weight": noise(rows, config["hidden_size"]) for p in "kv"}
        more[f"{own}k_norm.weight"] = noise(size)
    return replace(checkpoint, weights={**checkpoint.weights, **more})


def masked_lm(prefix: str, *rules: tuple[str, str], **more: tuple[int, ...]) -> Layout:
    """An encoder saved under a head of its training."""
    return named((r"^(?!cls\.|head\.|decoder\.|lm_head\.)", prefix), *rules, **more)


VISION = "vision_tower.encoder.layers.0.attention.q_proj.weight multi_modal_projector.linear_1.weight"
LANGUAGE = under("language_model.model.", head="language_model.lm_head.")
MODEL_LANGUAGE = under("model.language_model.")
LLAMA4 = inside(
    "llama4",
    *LANGUAGE,
    beside="vision_model.model.layers.0.self_attn.q_proj.weight multi_modal_projector.linear_1.weight",
)
QWEN35_PARTS = "model.visual.blocks.0.attn.qkv.weight mtp.layers.0.mlp.up_proj.weight mtp.fc.weight mtp.norm.weight"
GEMMA4_PARTS = (
    "model.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight model.embed_vision.embedding_projection.weight"
    " model.audio_tower.conformer.0.weight model.embed_audio.embedding_projection.weight"
)
GEMMA3N_PARTS = (
    "model.vision_tower.timm_model.conv_stem.conv.weight model.embed_vision.embedding.weight"
    " model.audio_tower.conformer.0.norm.weight model.embed_audio.embedding.weight"
)
UNIFIED_PARTS = (
    "model.vision_embedder.patch_dense.weight model.embed_vision.embedding_projection.weight"
    " model.embed_audio.embedding_projection.weight"
)
GEMMA4 = {"wrapped": inside("gemma4", *MODEL_LANGUAGE, beside=GEMMA4_PARTS)}
MISTRAL3 = {"wrapped": inside("mistral3", *LANGUAGE, beside=VISION)}
MASKS: dict[str, tuple[int, ...]] = {"attn__bias": (1, 1, 128, 128), "attn__masked_bias": (1,)}


OLMO_NORMS = (
    (r"\.attention_layer_norm\.", ".input_layernorm."),
    (r"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
)


def olmo_published(checkpoint: Checkpoint) -> Checkpoint:
    """transformers 5.23 cuts the convolution into three of equal size; the authors by what they belong to."""
    c = checkpoint.config
    keys = c["linear_num_key_heads"] * c["linear_key_head_dim"]
    weights = renamed(one_convolution(checkpoint).weights, *OLMO_NORMS)
    for name in list(weights):
        if name.endswith(".conv1d.weight"):
            parts = np.split(weights.pop(name), [keys, 2 * keys])
            weights |= {name.replace("conv1d", f"{x}_conv1d"): part for x, part in zip("qkv", parts, strict=True)}
    return replace(checkpoint, weights=weights)


def qwen35_moe(checkpoint: Checkpoint) -> Checkpoint:
    return inside("qwen3_5_moe", *MODEL_LANGUAGE, beside=QWEN35_PARTS)(in_memory(checkpoint))


# case: layout: how it is made. The base layout and the older spelling are every case's and not listed.
LAYOUTS: dict[str, dict[str, Layout]] = {
    "llama": {"stored frequencies": with_more(model__layers__0__self_attn__rotary_emb__inv_freq=(8,))},
    "llama_tied": {"head as well": head_as_well},
    "llama4_scout": {"wrapped": LLAMA4},
    "llama4_maverick": {"wrapped": LLAMA4},
    "mistral": MISTRAL3,
    "ministral3": MISTRAL3,
    "mistral4": MISTRAL3,
    "mixtral": {"in memory": in_memory},
    "qwen3": {"head as well": head_as_well},
    "qwen3_moe": {"in memory": in_memory},
    "qwen3_next": {
        "in memory": in_memory,
        "prediction": with_more(mtp__layers__0__mlp__up_proj__weight=(8, 4), mtp__fc__weight=(8, 4)),
    },
    "qwen3_5": {"wrapped": inside("qwen3_5", *MODEL_LANGUAGE, beside=QWEN35_PARTS)},
    "qwen3_5_moe": {"in memory": in_memory, "wrapped": qwen35_moe},
    "qwen2_moe": {"in memory": in_memory},
    "deepseek_v2": {"in memory": in_memory},
    "deepseek_v3": {"in memory": in_memory, "prediction": prediction_layer},
    "kimi_k2": {
        "wrapped": inside(
            "kimi_k25", *LANGUAGE, beside="vision_tower.encoder.blocks.0.wqkv.weight mm_projector.proj.0.weight"
        )
    },
    "deepseek_v32": {"in memory": in_memory, "prediction": prediction_layer},
    "glm4_moe": {"in memory": in_memory, "prediction": prediction_layer},
    "glm_moe_dsa": {"in memory": in_memory, "prediction": prediction_layer},
    "gemma3": {
        "wrapped": inside("gemma3", *LANGUAGE, beside=VISION),
        "wrapped anew": inside("gemma3", *MODEL_LANGUAGE, beside="model.vision_tower.a.weight"),
    },
    "gemma3n": {
        "lent keys stored": lent_keys_stored,
        "wrapped": lambda c: inside("gemma3n", *MODEL_LANGUAGE, beside=GEMMA3N_PARTS)(lent_keys_stored(c)),
    },
    "gemma4_dense": GEMMA4,
    "gemma4_moe": GEMMA4,
    "gemma4_small": {**GEMMA4, "lent keys stored": lent_keys_stored},
    "gemma4_unified": {
        "wrapped": inside("gemma4_unified", *MODEL_LANGUAGE, beside=UNIFIED_PARTS, hidden_size_per_layer_input=0)
    },
    "phimoe": {"in memory": in_memory},
    "granite_hybrid": {"in memory": in_memory},
    "nemotron_h": {"in memory": in_memory, "prediction": with_more(mtp__layers__0__norm__weight=(8,))},
    "jamba": {"in memory": in_memory},
    "afmoe": {"in memory": in_memory},
    "laguna": {"in memory": in_memory},
    "olmoe": {"in memory": in_memory},
    "ernie4_5_moe": {"in memory": in_memory},
    "hunyuan_moe": {"in memory": in_memory},
    "dots1": {"in memory": in_memory, "prediction": prediction_layer},
    "solar_open": {"in memory": in_memory},
    "exaone_moe": {"in memory": in_memory},
    "glm4_moe_lite": {"in memory": in_memory, "prediction": prediction_layer},
    "minimax_m2": {"in memory": in_memory},
    "mellum": {"in memory": in_memory},
    "granitemoe": {"in memory": in_memory},
    "lfm2_moe": {"in memory": in_memory},
    "olmo_hybrid": {"as published": olmo_published, "in memory": lambda c: one_convolution(olmo_published(c))},
    "olmo_hybrid_turned": {"as published": olmo_published},
    "bailing_hybrid": {
        "as published": named((r"^(model\.layers\.[02]\.attention)\.dense\.", r"\1.o_proj.")),
        "in memory": lambda c: one_convolution(in_memory(c)),
    },
    "kimi_linear": {
        "as published": named((r"^(model\.layers\.0)\.block_sparse_moe\.(gate|up|down)_proj", r"\1.mlp.\2_proj")),
        "in memory": lambda c: one_convolution(in_memory(c)),
        "prediction": with_more(model__mtp__norm__weight=(8,)),
    },
    "nanochat": {
        "authors' names": named(
            (r"^model\.embed_tokens\.", "transformer.wte."),
            (r"^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.", r"transformer.h.\1.attn.c_\2."),
            (r"^model\.layers\.(\d+)\.self_attn\.o_proj\.", r"transformer.h.\1.attn.c_proj."),
            (r"^model\.layers\.(\d+)\.mlp\.fc1\.", r"transformer.h.\1.mlp.c_fc."),
            (r"^model\.layers\.(\d+)\.mlp\.fc2\.", r"transformer.h.\1.mlp.c_proj."),
        )
    },
    "gpt2": {
        "bare": named((r"^transformer\.", ""), transformer__h__0__attn__bias=(1, 1, 128, 128)),
        "head as well": head_as_well,
    },
    "gptj": {"stored masks": with_more(**{f"transformer__h__0__{name}": shape for name, shape in MASKS.items()})},
    "gpt_neox": {
        "in memory": in_memory,
        "stored masks": with_more(
            gpt_neox__layers__0__attention__bias=(1, 1, 128, 128),
            gpt_neox__layers__0__attention__masked_bias=(1,),
            gpt_neox__layers__0__attention__rotary_emb__inv_freq=(4,),
        ),
    },
    "opt": {"head as well": head_as_well, "bare": named((r"^model\.", ""))},
    "bloom": {"bare": named((r"^transformer\.", "")), "head as well": head_as_well},
    "bert": {
        "masked lm": masked_lm(
            "bert.", cls__predictions__bias=(48,), cls__predictions__transform__dense__weight=(8, 8)
        ),
        "gamma and beta": masked_lm(
            "bert.",
            (r"LayerNorm\.weight$", "LayerNorm.gamma"),
            (r"LayerNorm\.bias$", "LayerNorm.beta"),
            cls__seq_relationship__weight=(2, 64),
        ),
        "stored positions": with_more(embeddings__position_ids=(1, 64)),
    },
    "roberta": {"masked lm": masked_lm("roberta.", lm_head__bias=(48,), lm_head__dense__weight=(8, 8))},
    "mpnet_long": {"masked lm": masked_lm("mpnet.", lm_head__bias=(48,), lm_head__dense__weight=(8, 8))},
    "eurobert": {"masked lm": masked_lm("model.", lm_head__weight=(48, 64))},
    **ENCODER_LAYOUTS,
    "modernbert": {"masked lm": masked_lm("model.", head__dense__weight=(64, 64), decoder__bias=(48,))},
}


def layouts(name: str, model_type: str) -> dict[str, Layout]:
    """Every layout of a case but the base one."""
    spelling = {} if model_type in NO_OLDER else {"older": in_older_words}
    return {**spelling, **LAYOUTS.get(name, {})}
