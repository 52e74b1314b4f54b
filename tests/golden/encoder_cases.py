"""Golden cases of encoders: families that give vectors of texts. Their reference is the last hidden state.

Configs are spelled as transformers 5 does; what their authors write is a layout of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .case import EPS, FULL, IDS, ROPE, SLIDE, Case, tiny

SIZES: dict[str, Any] = {
    **IDS,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "layer_norm_eps": EPS,
}


GEMMA_ROPE = {FULL: ROPE, SLIDE: {"rope_type": "default", "rope_theta": 10000.0}}


def encoder(model_type: str, **config: Any) -> Case:
    return Case(model_type, {**SIZES, **config}, encoder=True)


ENCODERS: dict[str, Case] = {
    "roberta": encoder("roberta", pad_token_id=1, type_vocab_size=1),
    "xlm_roberta": encoder("xlm-roberta", pad_token_id=2, type_vocab_size=1, hidden_act="gelu_new"),
    # scores grow by distances up to 128 and farther, which a short text has not
    "mpnet_long": replace(
        encoder("mpnet", hidden_size=32, num_hidden_layers=3, max_position_embeddings=150, intermediate_size=48),
        tokens=140,
    ),
    "nomic_bert": encoder("nomic_bert", rope_parameters=ROPE),
    "gte": encoder("gte", rope_parameters=ROPE),
    "gte_untyped": encoder("gte", rope_parameters=ROPE, type_vocab_size=0, hidden_act="silu"),
    "jina_embeddings_v3": encoder("jina_embeddings_v3", rope_parameters=ROPE),
    "eurobert": replace(tiny("eurobert"), encoder=True),
    "eurobert_bias": replace(tiny("eurobert", attention_bias=True, mlp_bias=True), encoder=True),
    # an embedding model that sees both ways, half the window to each side
    "embedding_gemma": replace(
        tiny(
            "gemma3_text",
            rope=GEMMA_ROPE,
            use_bidirectional_attention=True,
            sliding_window=8,
            head_dim=16,
            num_hidden_layers=6,
            query_pre_attn_scalar=24,
        ),
        encoder=True,
    ),
}
