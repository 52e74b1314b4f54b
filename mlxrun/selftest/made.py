"""A checkpoint with random weights, made where temporary files go: as transformers writes it, in several files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Dimensions:
    layers: int = 33  # with what stands outside of layers: 300 tensors
    dim: int = 256
    hidden: int = 512
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 1000
    files: int = 8

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.dim,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        keys = self.dim // self.heads * self.kv_heads
        yield "model.embed_tokens.weight", (self.vocab, self.dim)
        yield "lm_head.weight", (self.vocab, self.dim)
        yield "model.norm.weight", (self.dim,)
        for number in range(self.layers):
            layer = f"model.layers.{number}"
            for name, rows in (("q", self.dim), ("k", keys), ("v", keys), ("o", self.dim)):
                yield f"{layer}.self_attn.{name}_proj.weight", (rows, self.dim)
            for name in ("gate", "up"):
                yield f"{layer}.mlp.{name}_proj.weight", (self.hidden, self.dim)
            yield f"{layer}.mlp.down_proj.weight", (self.dim, self.hidden)
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield f"{layer}.{name}.weight", (self.dim,)


def tensor(name: str, shape: tuple[int, ...]) -> mx.array:
    """The same for the same name."""
    key = mx.random.key(sum(place * byte for place, byte in enumerate(name.encode(), 1)))
    spread = 1.0 if len(shape) == 1 else shape[-1] ** -0.5
    return (mx.random.normal(shape, key=key) * spread).astype(mx.bfloat16)


def write(folder: Path, shape: Dimensions) -> int:
    """Gives the bytes of its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config), encoding="utf-8")
    names, places, size = list(shape.shapes()), dict[str, str](), 0
    for number in range(shape.files):
        file = f"model-{number + 1:05d}-of-{shape.files:05d}.safetensors"
        part = {name: tensor(name, extent) for name, extent in names[number :: shape.files]}
        save(folder / file, part)
        places |= dict.fromkeys(part, file)
        size += sum(one.nbytes for one in part.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return size


def save(file: Path, tensors: dict[str, mx.array]) -> None:
    """With a header that ends where eight bytes do, as safetensors' own writer has it; MLX's ends anywhere."""
    for padding in range(8):
        mx.save_safetensors(str(file), tensors, metadata={"format": "pt", "padding": " " * padding})
        with file.open("rb") as written:
            if int.from_bytes(written.read(8), "little") % 8 == 0:
                return
