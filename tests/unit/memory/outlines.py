"""Checkpoints of real models' shapes with nothing in them: a true header before a hole of the right size.

Shapes are those of the published config.json files; quantized as mlx-lm quantizes, groups along the last axis,
norms in bfloat16, 8-bit routers of Qwen3 MoE where the rest has fewer bits.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QWEN3_4B: dict[str, Any] = {  # Qwen/Qwen3-4B-Instruct-2507
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_30B_A3B: dict[str, Any] = {  # Qwen/Qwen3-30B-A3B-Instruct-2507
    **QWEN3_4B,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "rope_theta": 10000000,
    "tie_word_embeddings": False,
}
LLAMA_32_3B: dict[str, Any] = {  # meta-llama/Llama-3.2-3B-Instruct
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 24,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}


def write(folder: Path, config: dict[str, Any], bits: int | None, group: int = 64) -> Path:
    """`bits` None: bfloat16."""
    quantization = {} if bits is None else {"quantization": {"bits": bits, "group_size": group}}
    if bits is not None and "num_experts" in config:
        router = {"bits": 8, "group_size": 64}
        layers = range(config["num_hidden_layers"])
        quantization["quantization"] |= {f"model.layers.{n}.mlp.gate": router for n in layers}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **quantization}), encoding="utf-8")
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, shape in shapes(config):
        own = (8, 64) if name.endswith("mlp.gate") else (bits, group)
        for part, dtype, extent in parts(name, shape, *own):
            size = math.prod(extent) * {"U32": 4, "BF16": 2}[dtype]
            header[part] = {"dtype": dtype, "shape": extent, "data_offsets": [end, end + size]}
            end += size
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)
    return folder


def parts(name: str, shape: tuple[int, ...], bits: int | None, group: int) -> Iterator[tuple[str, str, list[int]]]:
    *rows, width = shape
    if bits is None or not rows:
        yield f"{name}.weight", "BF16", [*shape]
        return
    yield f"{name}.weight", "U32", [*rows, width * bits // 32]
    yield f"{name}.scales", "BF16", [*rows, width // group]
    yield f"{name}.biases", "BF16", [*rows, width // group]


def shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Modules as mlx-lm names them."""
    dim, head, vocab = config["hidden_size"], config["head_dim"], config["vocab_size"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens", (vocab, dim)
    yield "model.norm", (dim,)
    if not config["tie_word_embeddings"]:
        yield "lm_head", (vocab, dim)
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        yield f"{layer}.input_layernorm", (dim,)
        yield f"{layer}.post_attention_layernorm", (dim,)
        for name, shape in (("q", (q, dim)), ("k", (kv, dim)), ("v", (kv, dim)), ("o", (dim, q))):
            yield f"{layer}.self_attn.{name}_proj", shape
        if config["model_type"].startswith("qwen3"):
            yield f"{layer}.self_attn.q_norm", (head,)
            yield f"{layer}.self_attn.k_norm", (head,)
        experts, hidden = config.get("num_experts"), config.get("moe_intermediate_size", config["intermediate_size"])
        stack = (experts,) if experts else ()
        if experts:
            yield f"{layer}.mlp.gate", (experts, dim)
        place = f"{layer}.mlp.switch_mlp" if experts else f"{layer}.mlp"
        for name, shape in (("gate", (hidden, dim)), ("up", (hidden, dim)), ("down", (dim, hidden))):
            yield f"{place}.{name}_proj", (*stack, *shape)
