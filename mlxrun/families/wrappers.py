"""Multimodal checkpoints hold a language model under a prefix: find it, say what is left out.

Knows where wrappers keep the text half's keys and names; knows nothing of the half itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import ModelError
from .config import Dialect
from .rules import Drop, Rename, Rule

TEXT_KEYS = ("text_config", "llm_config", "language_config")

# Text halves whose file may leave out what equals the class's own default (transformers 4 saved differences).
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
    },
    "mistral": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    },
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
}

# wrapper's type: text half's type, where the half itself does not say
HALVES = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "llama4": "llama4_text",
    "llava": "llama",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "kimi_k25": "kimi_k2",
    "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}

VISION = "the vision tower"
_PARTS = {
    "vision_config": VISION,
    "audio_config": "the audio tower",
    "video_config": "the video tower",
}

RULES: tuple[Rule, ...] = (
    Drop(
        r"^(?:model\.)?(?:vision_tower|vision_model|vision_embedder|visual|vision_encoder|multi_modal_projector|connector"
        r"|mm_projector|embed_vision|audio_tower|embed_audio|image_newline|patch_merger)(?:\.|$)",
        "vision and audio",
    ),
    Rename(r"^model\.(?:language|text)_model\.", "model."),
    Rename(r"^language_model\.model\.", "model."),
    Rename(r"^language_model\.(?=lm_head\.)", ""),
)


def unwrap(
    config: Mapping[str, Any], dialect: Dialect, file: str
) -> tuple[dict[str, Any], tuple[Rule, ...], tuple[str, ...]]:
    """(the language model's own config, rules that undo the wrapper, the other parts in words)."""
    left_out = tuple(words for key, words in _PARTS.items() if isinstance(config.get(key), Mapping))
    key = next((key for key in TEXT_KEYS if config.get(key) is not None), None)
    outer = config.get("model_type")
    if key is None:
        if not left_out:
            return dict(config), (), ()
        flat = {k: v for k, v in config.items() if k not in _PARTS and not _about_media(k)}  # Qwen2.5-VL of 2025
        return {**flat, "model_type": HALVES.get(str(outer), outer)}, RULES, left_out
    inner = config[key]
    if not isinstance(inner, Mapping):
        raise ModelError(f"{file}: {key} must be an object.")
    kind = inner.get("model_type") or HALVES.get(str(outer), outer)
    text = {**_DEFAULTS.get(str(kind), {}), **inner, "model_type": kind}
    tied = config.get("tie_word_embeddings")
    if tied is not None and dialect == "hf":  # transformers asks the wrapper, mlx-lm the half
        text["tie_word_embeddings"] = tied
    return text, RULES, left_out


def _about_media(key: str) -> bool:
    return any(word in key for word in ("image", "vision", "video", "audio"))
