"""A GGUF file in the making: keys of its architecture, matrices in a form's formats, vectors in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from .blocks import FORMS, random_rows

Value = gguf.GGUFValueType


class Sketch:
    def __init__(self, file: Path, arch: str, form: str, layers: int, **keys: Any) -> None:
        self.writer = gguf.GGUFWriter(file, arch, use_temp_file=True)
        self.arch, self.layers, self.choose = arch, layers, FORMS[form]
        self.rng = np.random.default_rng(0)
        self.writer.add_tokenizer_model("no_vocab")
        self.keys(block_count=layers, context_length=32768, **keys)

    def keys(self, **values: Any) -> None:
        """`__` in a name is a point."""
        for name, value in values.items():
            kind = _kind(value[0] if isinstance(value, list) else value)
            outer, inner = (Value.ARRAY, kind) if isinstance(value, list) else (kind, None)
            self.writer.add_key_value(f"{self.arch}.{name.replace('__', '.')}", value, outer, sub_type=inner)

    def matrix(self, name: str, *shape: int, of: str = "") -> None:
        """`of`: what a mixture of formats takes it for, where that is not its own name."""
        layer, _, own = name.removeprefix("blk.").partition(".")
        place = int(layer) if own else 0
        plain = of or (own or name).removesuffix("_exps").removesuffix("_shexp")
        rows, kind = random_rows(self.rng, shape, self.choose(plain, place, self.layers))
        self.writer.add_tensor(f"{name}.weight", rows, raw_dtype=kind)

    def embedding(self, vocab: int, dim: int, *, tied: bool) -> None:
        self.keys(vocab_size=vocab)
        self.matrix("token_embd", vocab, dim, of="output" if tied else "token_embd")
        if not tied:
            self.matrix("output", vocab, dim)
        self.ones("output_norm", dim)

    def floats(self, name: str, *shape: int, scale: float = 1.0) -> None:
        """A whole name; what no file quantizes: routers, biases, convolutions."""
        self.writer.add_tensor(name, self.rng.standard_normal(shape, np.float32) * np.float32(scale))

    def full(self, name: str, value: float, *shape: int) -> None:
        self.writer.add_tensor(name, np.full(shape, value, np.float32))

    def ones(self, names: str, count: int, blk: str = "") -> None:
        for name in names.split():
            self.full(f"{blk}{name}.weight", 1.0, count)

    def network(self, blk: str, dim: int, hidden: int, ending: str = "", experts: int = 0) -> None:
        each = (experts,) if experts else ()
        for part, rows, width in (("gate", hidden, dim), ("up", hidden, dim), ("down", dim, hidden)):
            self.matrix(f"{blk}ffn_{part}{ending}", *each, rows, width)

    def router(self, blk: str, dim: int, experts: int) -> None:
        self.floats(f"{blk}ffn_gate_inp.weight", experts, dim, scale=dim**-0.5)

    def attention(self, blk: str, dim: int, heads: int, kv_heads: int, head: int, *, biased: bool = False) -> None:
        for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            self.matrix(f"{blk}attn_{part}", count * head, dim)
            if biased:
                self.floats(f"{blk}attn_{part}.bias", count * head, scale=0.1)
        self.matrix(f"{blk}attn_output", dim, heads * head)

    def finish(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def _kind(value: Any) -> Value:
    return {bool: Value.BOOL, int: Value.UINT32, float: Value.FLOAT32, str: Value.STRING}[type(value)]
