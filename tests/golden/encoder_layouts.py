"""The other layouts that encoders' tensors are found in: with the names that transformers' modules have, and with the
configs that the families' authors write. Knows nothing of mlxrun.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .checkpoint import Checkpoint, Weights

Layout = Callable[[Checkpoint], Checkpoint]
JOINED = {  # as stored: the modules that it is
    r"attn\.Wqkv|mixer\.Wqkv|attention\.qkv_proj": tuple(f"self_attn.{x}_proj" for x in "qkv"),
    r"mlp\.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj"),
}
MODULES = (
    (r"^emb_ln\.", "embeddings.LayerNorm."),
    (r"^encoder\.layers?\.", "layers."),
    (r"\.(?:attn\.out_proj|mixer\.out_proj|attention\.o_proj)\.", ".self_attn.o_proj."),
    (r"\.mlp\.fc11\.", ".mlp.up_proj."),
    (r"\.mlp\.fc12\.", ".mlp.gate_proj."),
    (r"\.(?:norm1|attn_ln)\.", ".post_attention_layernorm."),
    (r"\.(?:norm2|mlp_ln)\.", ".post_mlp_layernorm."),
)


def in_memory(checkpoint: Checkpoint) -> Checkpoint:
    weights: Weights = {}
    gated = any(".fc12." in name for name in checkpoint.weights)  # else fc2 has its own name there too
    for name, value in checkpoint.weights.items():
        joined = next((found for found in JOINED if re.search(found, name)), None)
        cut = JOINED[joined] if joined else ()
        parts = np.split(value, len(cut)) if cut else [value]
        for part, own in zip(parts, cut or ("",), strict=True):
            named = re.sub(joined, own, name) if joined else name
            for pattern, after in (*MODULES, *(((r"\.mlp\.fc2\.", ".mlp.down_proj."),) if gated else ())):
                named = re.sub(pattern, after, named)
            weights[named] = part
    return replace(checkpoint, weights=weights)


def with_config(checkpoint: Checkpoint, **config: Any) -> Checkpoint:
    return replace(checkpoint, config=config)


def nomics(c: Checkpoint) -> Checkpoint:
    """As in nomic-embed-text: GPT-2's words for sizes, and switches for what the family could be."""
    own = c.config
    return with_config(
        c,
        activation_function="swiglu",
        architectures=["NomicBertModel"],
        attn_pdrop=0.0,
        bos_token_id=None,
        causal=False,
        dense_seq_output=True,
        embd_pdrop=0.0,
        fused_bias_fc=True,
        fused_dropout_add_ln=True,
        layer_norm_epsilon=own["layer_norm_eps"],
        max_trained_positions=64,
        mlp_fc1_bias=False,
        mlp_fc2_bias=False,
        model_type="nomic_bert",
        n_embd=own["hidden_size"],
        n_head=own["num_attention_heads"],
        n_inner=own["intermediate_size"],
        n_layer=own["num_hidden_layers"],
        n_positions=256,
        pad_vocab_size_multiple=64,
        parallel_block=False,
        prenorm=False,
        qkv_proj_bias=False,
        reorder_and_upcast_attn=False,
        rotary_emb_base=own["rope_parameters"]["rope_theta"],
        rotary_emb_fraction=1.0,
        rotary_emb_interleaved=False,
        rotary_emb_scale_base=None,
        rotary_scaling_factor=2.0,
        scale_attn_weights=True,
        summary_activation=None,
        summary_type="cls_index",
        summary_use_proj=True,
        torch_dtype="float32",
        type_vocab_size=own["type_vocab_size"],
        use_cache=True,
        use_flash_attn=True,
        use_rms_norm=False,
        use_xentropy=True,
        vocab_size=own["vocab_size"],
    )


def gtes(c: Checkpoint) -> Checkpoint:
    """As in gte-base-en-v1.5, whose masked-token head lies beside it; without a stretched rope."""
    left = ("rope_parameters", "dtype")
    config = {key: value for key, value in c.config.items() if key not in left}
    config |= {
        "model_type": "new",
        "architectures": ["NewForMaskedLM"],
        "rope_theta": c.config["rope_parameters"]["rope_theta"],
        "rope_scaling": None,
        "layer_norm_type": "layer_norm",
        "pack_qkv": True,
        "position_embedding_type": "rope",
        "logn_attention_scale": False,
        "logn_attention_clip1": False,
        "unpad_inputs": True,
        "use_memory_efficient_attention": True,
        "torch_dtype": "float32",
    }
    weights = {f"new.{name}": value for name, value in c.weights.items()}
    weights |= {"lm_head.dense.weight": np.zeros((8, 8), np.float32), "new.pooler.dense.bias": np.zeros(8, np.float32)}
    return replace(c, config=config, weights=weights)


ENCODER_LAYOUTS: dict[str, dict[str, Layout]] = {
    "nomic_bert": {"in memory": in_memory, "authors' words": nomics},
    "gte": {"in memory": in_memory, "authors' words": gtes},
    "gte_untyped": {"authors' words": gtes},
    "jina_embeddings_v3": {"in memory": in_memory},
}
