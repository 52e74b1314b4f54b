"""Decoders of nothing but attention and a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .sketch import Sketch


@dataclass(frozen=True)
class Shape:
    title: str  # whose, and what was cut
    write: Callable[[Path, str], None]  # (file, form)


def heads_keys(heads: int, kv_heads: int | list[int], head: int, base: float = 1e6) -> dict[str, object]:
    return {
        "attention__head_count": heads,
        "attention__head_count_kv": kv_heads,
        "attention__key_length": head,
        "attention__value_length": head,
        "attention__layer_norm_rms_epsilon": 1e-6,
        "rope__freq_base": base,
    }


def llama(file: Path, form: str) -> None:
    dim, hidden, layers = 2048, 8192, 6
    keys = heads_keys(32, 8, 64, 5e5)
    to = Sketch(file, "llama", form, layers, embedding_length=dim, feed_forward_length=hidden, **keys)
    to.keys(rope__dimension_count=64)
    to.embedding(128256, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.attention(blk, dim, 32, 8, 64)
        to.network(blk, dim, hidden)
    to.finish()


def qwen2(file: Path, form: str) -> None:
    dim, hidden, layers = 1536, 8960, 8
    to = Sketch(file, "qwen2", form, layers, embedding_length=dim, feed_forward_length=hidden, **heads_keys(12, 2, 128))
    to.embedding(151936, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.attention(blk, dim, 12, 2, 128, biased=True)
        to.network(blk, dim, hidden)
    to.finish()


def qwen3(file: Path, form: str) -> None:
    dim, hidden, layers = 1024, 3072, 28
    to = Sketch(file, "qwen3", form, layers, embedding_length=dim, feed_forward_length=hidden, **heads_keys(16, 8, 128))
    to.embedding(151936, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.ones("attn_q_norm attn_k_norm", 128, blk)
        to.attention(blk, dim, 16, 8, 128)
        to.network(blk, dim, hidden)
    to.finish()


def gemma3(file: Path, form: str) -> None:
    dim, hidden, layers, head = 1152, 6912, 12, 256
    keys = heads_keys(4, 1, head)
    to = Sketch(file, "gemma3", form, layers, embedding_length=dim, feed_forward_length=hidden, **keys)
    to.keys(attention__sliding_window=512, rope__freq_base_swa=1e4)
    to.embedding(262144, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm post_attention_norm ffn_norm post_ffw_norm", dim, blk)
        to.ones("attn_q_norm attn_k_norm", head, blk)
        to.attention(blk, dim, 4, 1, head)
        to.network(blk, dim, hidden)
    to.finish()


def gemma4_keys(to: Sketch, slides: list[bool], head: int, wide: int, lent: int) -> None:
    to.keys(
        attention__sliding_window=512,
        attention__sliding_window_pattern=slides,
        attention__shared_kv_layers=lent,
        attention__key_length_swa=head,
        attention__value_length_swa=head,
        rope__dimension_count=wide,
        rope__dimension_count_swa=head,
        rope__freq_base_swa=1e4,
        final_logit_softcapping=30.0,
    )
    turning = wide // 8
    factors = np.array([1.0] * turning + [1e30] * (wide // 2 - turning), np.float32)
    to.writer.add_tensor("rope_freqs.weight", factors)


def gemma4_layer(to: Sketch, blk: str, dim: int, heads: int, kv_heads: int, head: int) -> None:
    to.ones("attn_norm post_attention_norm ffn_norm post_ffw_norm", dim, blk)
    to.ones("attn_q_norm attn_k_norm", head, blk)
    to.ones("layer_output_scale", 1, blk)
    to.attention(blk, dim, heads, kv_heads, head)


def gemma4_small(file: Path, form: str) -> None:
    """Every fifth layer is full; the last ones look at keys of others and have twice the network."""
    dim, hidden, layers, head, wide, lent, extra = 1536, 6144, 10, 256, 512, 4, 256
    slides = [i % 5 != 4 for i in range(layers)]
    widths = [hidden * (1 + (i >= layers - lent)) for i in range(layers)]
    to = Sketch(
        file, "gemma4", form, layers, embedding_length=dim, feed_forward_length=widths, **heads_keys(8, 1, wide)
    )
    to.keys(embedding_length_per_layer_input=extra)
    gemma4_keys(to, slides, head, wide, lent)
    vocab = 65536
    to.embedding(vocab, dim, tied=True)
    to.matrix("per_layer_token_embd", vocab, extra * layers, of="token_embd")
    to.matrix("per_layer_model_proj", extra * layers, dim)
    to.ones("per_layer_proj_norm", extra)
    for i in range(layers):
        blk = f"blk.{i}."
        gemma4_layer(to, blk, dim, 8, 1, head if slides[i] else wide)
        to.network(blk, dim, widths[i])
        to.matrix(f"{blk}inp_gate", extra, dim)
        to.matrix(f"{blk}proj", dim, extra)
        to.ones("post_norm", dim, blk)
    to.finish()


def phi3(file: Path, form: str) -> None:
    dim, hidden, layers = 3072, 8192, 6
    keys = heads_keys(32, 32, 96, 1e4)
    to = Sketch(file, "phi3", form, layers, embedding_length=dim, feed_forward_length=hidden, **keys)
    to.keys(rope__dimension_count=96)
    to.embedding(32064, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.matrix(f"{blk}attn_qkv", 3 * dim, dim)
        to.matrix(f"{blk}attn_output", dim, dim)
        to.matrix(f"{blk}ffn_up", 2 * hidden, dim)
        to.matrix(f"{blk}ffn_down", dim, hidden)
    to.finish()


DENSE = {
    "llama": Shape("Llama 3.2 1B, 6 of 16 layers", llama),
    "qwen2": Shape("Qwen2.5 1.5B, 8 of 28 layers", qwen2),
    "qwen3": Shape("Qwen3 0.6B", qwen3),
    "gemma3": Shape("Gemma 3 1B, 12 of 26 layers", gemma3),
    "gemma4-e": Shape("Gemma 4 E2B, 10 of 35 layers, a quarter of the vocabulary", gemma4_small),
    "phi3": Shape("Phi-3 mini, 6 of 32 layers", phi3),
}
