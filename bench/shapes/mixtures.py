"""Decoders whose networks are mixtures of experts."""

from __future__ import annotations

from pathlib import Path

from .attention import Shape, gemma4_keys, gemma4_layer, heads_keys
from .sketch import Sketch


def qwen3_moe(file: Path, form: str) -> None:
    dim, hidden, layers, experts = 2048, 768, 4, 32
    to = Sketch(file, "qwen3moe", form, layers, embedding_length=dim, feed_forward_length=6144)
    to.keys(**heads_keys(32, 4, 128), expert_count=experts, expert_used_count=8, expert_feed_forward_length=hidden)
    to.embedding(65536, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.ones("attn_q_norm attn_k_norm", 128, blk)
        to.attention(blk, dim, 32, 4, 128)
        to.router(blk, dim, experts)
        to.network(blk, dim, hidden, "_exps", experts)
    to.finish()


def gpt_oss(file: Path, form: str) -> None:
    dim, layers, experts = 2880, 2, 8
    keys = heads_keys(64, 8, 64, 1.5e5)
    to = Sketch(file, "gpt-oss", form, layers, embedding_length=dim, feed_forward_length=dim, **keys)
    to.keys(expert_count=experts, expert_used_count=4, expert_feed_forward_length=dim, attention__sliding_window=128)
    to.keys(rope__dimension_count=64)
    to.embedding(50304, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm post_attention_norm", dim, blk)
        to.attention(blk, dim, 64, 8, 64, biased=True)
        to.floats(f"{blk}attn_output.bias", dim, scale=0.1)
        to.floats(f"{blk}attn_sinks.weight", 64)
        to.router(blk, dim, experts)
        to.floats(f"{blk}ffn_gate_inp.bias", experts, scale=0.1)
        to.network(blk, dim, dim, "_exps", experts)
        for part in ("gate", "up", "down"):
            to.floats(f"{blk}ffn_{part}_exps.bias", experts, dim, scale=0.1)
    to.finish()


def glm4_moe(file: Path, form: str) -> None:
    dim, hidden, layers, experts = 4096, 1408, 2, 16
    keys = heads_keys(96, 8, 128)
    to = Sketch(file, "glm4moe", form, layers, embedding_length=dim, feed_forward_length=10944, **keys)
    to.keys(rope__dimension_count=64, expert_count=experts, expert_used_count=8, expert_feed_forward_length=hidden)
    to.keys(expert_shared_count=1, leading_dense_block_count=1, expert_gating_func=2)
    to.keys(expert_weights_scale=1.0, expert_weights_norm=True)
    to.embedding(50304, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm post_attention_norm", dim, blk)
        to.attention(blk, dim, 96, 8, 128, biased=True)
        if i == 0:
            to.network(blk, dim, 10944)
            continue
        to.router(blk, dim, experts)
        to.floats(f"{blk}exp_probs_b.bias", experts, scale=0.01)
        to.network(blk, dim, hidden, "_exps", experts)
        to.network(blk, dim, hidden, "_shexp")
    to.finish()


def deepseek2(file: Path, form: str) -> None:
    """Latent attention: keys and values of all heads are made of one row of 512, and 64 turn. Queries are made in two
    steps as in V3; V2 Lite has one, which llama.cpp takes for granted at 27 layers only."""
    narrow = 768
    dim, hidden, layers, experts, heads, rank, nope, turned = 2048, 1408, 4, 16, 16, 512, 128, 64
    to = Sketch(file, "deepseek2", form, layers, embedding_length=dim, feed_forward_length=10944)
    to.keys(
        attention__head_count=heads,
        attention__head_count_kv=1,
        attention__q_lora_rank=narrow,
        attention__kv_lora_rank=rank,
        attention__key_length=rank + turned,
        attention__value_length=rank,
        attention__key_length_mla=nope + turned,
        attention__value_length_mla=nope,
        attention__layer_norm_rms_epsilon=1e-6,
        rope__dimension_count=turned,
        rope__freq_base=1e4,
    )
    to.keys(expert_count=experts, expert_used_count=6, expert_feed_forward_length=hidden, expert_shared_count=2)
    to.keys(leading_dense_block_count=1, expert_weights_scale=1.0)
    to.embedding(102400, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        to.ones("attn_kv_a_norm", rank, blk)
        to.matrix(f"{blk}attn_q_a", narrow, dim)
        to.ones("attn_q_a_norm", narrow, blk)
        to.matrix(f"{blk}attn_q_b", heads * (nope + turned), narrow)
        to.matrix(f"{blk}attn_kv_a_mqa", rank + turned, dim)
        to.matrix(f"{blk}attn_k_b", heads, rank, nope)
        to.matrix(f"{blk}attn_v_b", heads, nope, rank)
        to.matrix(f"{blk}attn_output", dim, heads * nope)
        if i == 0:
            to.network(blk, dim, 10944)
            continue
        to.router(blk, dim, experts)
        to.network(blk, dim, hidden, "_exps", experts)
        to.network(blk, dim, 2 * hidden, "_shexp")
    to.finish()


def gemma4_moe(file: Path, form: str) -> None:
    """Experts beside a network; every sixth layer is full, and its keys are its values."""
    dim, hidden, inner, layers, experts, head, wide = 2816, 2112, 704, 6, 16, 256, 512
    slides = [i % 6 != 5 for i in range(layers)]
    kv_heads = [8 if s else 2 for s in slides]
    keys = heads_keys(16, kv_heads, wide)
    to = Sketch(file, "gemma4", form, layers, embedding_length=dim, feed_forward_length=hidden, **keys)
    to.keys(embedding_length_per_layer_input=0, expert_count=experts, expert_used_count=8)
    to.keys(expert_feed_forward_length=inner)
    gemma4_keys(to, slides, head, wide, 0)
    to.embedding(65536, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        gemma4_layer(to, blk, dim, 16, kv_heads[i], head if slides[i] else wide)
        to.network(blk, dim, hidden)
        to.ones("post_ffw_norm_1 pre_ffw_norm_2 post_ffw_norm_2", dim, blk)
        to.router(blk, dim, experts)
        to.full(f"{blk}ffn_gate_inp.scale", 1.0, dim)
        to.network(blk, dim, inner, "_exps", experts)
        to.full(f"{blk}ffn_down_exps.scale", 1.0, experts)
    to.finish()


MIXTURES = {
    "gemma4-a4b": Shape("Gemma 4 26B-A4B, 6 of 30 layers, 16 of 128 experts, a quarter of the vocabulary", gemma4_moe),
    "gpt-oss": Shape("GPT-OSS 20B, 2 of 24 layers, 8 of 32 experts, a quarter of the vocabulary", gpt_oss),
    "qwen3-moe": Shape("Qwen3 30B-A3B, 4 of 48 layers, 32 of 128 experts, half the vocabulary", qwen3_moe),
    "glm4-moe": Shape("GLM 4.5 Air, 2 of 46 layers, 16 of 128 experts, a third of the vocabulary", glm4_moe),
    "deepseek2": Shape("DeepSeek V2 Lite, 4 of 27 layers, 16 of 64 experts, narrow queries", deepseek2),
}
