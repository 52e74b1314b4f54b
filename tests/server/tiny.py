"""A model of a hundred thousand random weights with a tokenizer of bytes, as a folder that a loader can read.

It has no end-of-text token, so it talks until it is stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.golden.checkpoint import Checkpoint, write

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD = 64, 96, 2, 4, 2, 16
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def write_tiny(folder: Path, context: int) -> Path:
    tokenizer = byte_tokenizer()
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    write(Checkpoint(config, weights(config["vocab_size"])), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")
    return folder


def byte_tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|special|>", special=True)])
    return tokenizer


def weights(vocab: int) -> dict[str, Any]:
    random = np.random.RandomState(7)

    def draw(*shape: int) -> Any:
        return random.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)

    found = {"model.embed_tokens.weight": draw(vocab, DIM) * 8, "lm_head.weight": draw(vocab, DIM)}
    found["model.norm.weight"] = np.ones(DIM, np.float32)
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        for name, rows in (("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            found[f"{layer}.self_attn.{name}_proj.weight"] = draw(rows, DIM)
        found[f"{layer}.self_attn.o_proj.weight"] = draw(DIM, HEADS * HEAD)
        for name in ("gate", "up"):
            found[f"{layer}.mlp.{name}_proj.weight"] = draw(HIDDEN, DIM)
        found[f"{layer}.mlp.down_proj.weight"] = draw(DIM, HIDDEN)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{name}.weight"] = np.ones(DIM, np.float32)
    return found
