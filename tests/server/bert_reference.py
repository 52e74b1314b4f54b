"""BERT once more, in NumPy and float64, from a folder's own files: what sentence-transformers makes of a text.

Written from the paper and its authors' layer names; it shares nothing with the project but the file's format.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from tokenizers import Tokenizer

Array = NDArray[np.float64]
erf = np.vectorize(math.erf, otypes=[np.float64])


class Reference:
    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        stored = safetensors.numpy.load_file(folder / "model.safetensors")
        self.weights = {
            name.removeprefix("bert."): value.astype(np.float64)
            for name, value in stored.items()
            if value.dtype.kind == "f"
        }
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def mean(self, text: str) -> Array:
        """Of all rows, of length 1."""
        vector = self.rows(self.ids(text)).mean(axis=0)
        return vector / np.linalg.norm(vector)

    def rows(self, ids: list[int], types: list[int] | None = None, seen: int | None = None) -> Array:
        """`seen`: so many, from the first on, are looked at; None: all."""
        at, kinds = "embeddings.", types or [0] * len(ids)
        x = self.weights[at + "word_embeddings.weight"][ids] + self.weights[at + "token_type_embeddings.weight"][kinds]
        x = self.norm(x + self.weights[at + "position_embeddings.weight"][: len(ids)], at + "LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(x, f"encoder.layer.{layer}.", seen)
        return x

    def layer(self, x: Array, at: str, seen: int | None = None) -> Array:
        heads = self.config["num_attention_heads"]
        q, k, v = (
            self.linear(x, f"{at}attention.self.{name}").reshape(len(x), heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        k, v = k[:, :seen], v[:, :seen]
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        found = (shares / shares.sum(axis=-1, keepdims=True)) @ v
        y = self.linear(found.transpose(1, 0, 2).reshape(len(x), -1), at + "attention.output.dense")
        x = self.norm(x + y, at + "attention.output.LayerNorm")
        y = self.linear(x, at + "intermediate.dense")
        y = self.linear(0.5 * y * (1 + erf(y / math.sqrt(2))), at + "output.dense")
        return self.norm(x + y, at + "output.LayerNorm")

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]
