"""Hybrids: some layers look at keys, most keep a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .attention import Shape, heads_keys
from .sketch import Sketch


def ssm_keys(to: Sketch, inner: int, state: int, heads: int, groups: int = 0) -> None:
    to.keys(ssm__conv_kernel=4, ssm__inner_size=inner, ssm__state_size=state, ssm__time_step_rank=heads)
    if groups:
        to.keys(ssm__group_count=groups)


def mamba2(to: Sketch, blk: str, dim: int, inner: int, state: int, heads: int, groups: int) -> None:
    mixed = inner + 2 * groups * state
    to.matrix(f"{blk}ssm_in", inner + mixed + heads, dim)
    to.floats(f"{blk}ssm_conv1d.weight", mixed, 4, scale=0.5)
    to.floats(f"{blk}ssm_conv1d.bias", mixed, scale=0.1)
    to.floats(f"{blk}ssm_dt.bias", heads)
    decays(to, f"{blk}ssm_a", heads, 1)
    to.full(f"{blk}ssm_d", 1.0, heads, 1)
    to.full(f"{blk}ssm_norm.weight", 1.0, groups, inner // groups)
    to.matrix(f"{blk}ssm_out", dim, inner)


def decays(to: Sketch, name: str, *shape: int) -> None:
    """Negative, as files have them: minus the exponential of what was learned."""
    to.writer.add_tensor(name, -np.exp(to.rng.uniform(-2, 2, shape)).astype(np.float32))


def granite_hybrid(file: Path, form: str) -> None:
    dim, hidden, layers, state, heads = 2048, 8192, 10, 128, 64
    kv_heads = [8 if i in (5,) else 0 for i in range(layers)]
    to = Sketch(file, "granitehybrid", form, layers, embedding_length=dim, feed_forward_length=hidden)
    to.keys(**heads_keys(32, kv_heads, 64), rope__dimension_count=64, rope__scaling__finetuned=False)
    to.keys(attention__scale=0.015625, embedding_scale=12.0, residual_scale=0.22, logit_scale=8.0)
    ssm_keys(to, 2 * dim, state, heads, 1)
    to.embedding(100352, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        if kv_heads[i]:
            to.attention(blk, dim, 32, 8, 64)
        else:
            mamba2(to, blk, dim, 2 * dim, state, heads, 1)
        to.network(blk, dim, hidden)
    to.finish()


def nemotron_h(file: Path, form: str) -> None:
    """A layer is a mixer or a network, not both."""
    dim, hidden, state, heads, groups = 3136, 12544, 128, 112, 8
    kinds = "M-M-M*-M"
    inner = heads * 64
    kv_heads = [8 if kind == "*" else 0 for kind in kinds]
    widths = [hidden if kind == "-" else 0 for kind in kinds]
    to = Sketch(file, "nemotron_h", form, len(kinds), embedding_length=dim, feed_forward_length=widths)
    to.keys(**heads_keys(32, kv_heads, 128, 1e4), attention__layer_norm_epsilon=1e-5, rope__dimension_count=128)
    ssm_keys(to, inner, state, heads, groups)
    to.embedding(65536, dim, tied=False)
    for i, kind in enumerate(kinds):
        blk = f"blk.{i}."
        to.ones("attn_norm", dim, blk)
        if kind == "M":
            mamba2(to, blk, dim, inner, state, heads, groups)
        elif kind == "*":
            to.attention(blk, dim, 32, 8, 128)
        else:
            to.matrix(f"{blk}ffn_up", hidden, dim)
            to.matrix(f"{blk}ffn_down", dim, hidden)
    to.finish()


def jamba(file: Path, form: str) -> None:
    dim, hidden, layers, state, rank = 2560, 8192, 8, 16, 160
    kv_heads = [2 if i % 8 == 4 else 0 for i in range(layers)]
    to = Sketch(file, "jamba", form, layers, embedding_length=dim, feed_forward_length=hidden)
    to.keys(**heads_keys(20, kv_heads, 128))
    ssm_keys(to, 2 * dim, state, rank)
    to.embedding(65536, dim, tied=True)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm ffn_norm", dim, blk)
        if kv_heads[i]:
            to.attention(blk, dim, 20, 2, 128)
        else:
            mamba1(to, blk, dim, 2 * dim, state, rank)
        to.network(blk, dim, hidden)
    to.finish()


def mamba1(to: Sketch, blk: str, dim: int, inner: int, state: int, rank: int) -> None:
    to.matrix(f"{blk}ssm_in", 2 * inner, dim)
    to.floats(f"{blk}ssm_conv1d.weight", inner, 4, scale=0.5)
    to.floats(f"{blk}ssm_conv1d.bias", inner, scale=0.1)
    to.matrix(f"{blk}ssm_x", rank + 2 * state, inner)
    to.ones("ssm_dt_norm", rank, blk)
    to.ones("ssm_b_norm ssm_c_norm", state, blk)
    to.floats(f"{blk}ssm_dt.weight", inner, rank, scale=rank**-0.5)
    to.floats(f"{blk}ssm_dt.bias", inner)
    decays(to, f"{blk}ssm_a", inner, state)
    to.full(f"{blk}ssm_d", 1.0, inner)
    to.matrix(f"{blk}ssm_out", dim, inner)


def qwen3_next(file: Path, form: str) -> None:
    dim, hidden, layers, experts, keys, values, width = 2048, 512, 4, 32, 16, 32, 128
    to = Sketch(file, "qwen3next", form, layers, embedding_length=dim, feed_forward_length=5120)
    to.keys(**heads_keys(16, 2, 256, 1e7), rope__dimension_count=64, full_attention_interval=4)
    to.keys(expert_count=experts, expert_used_count=10, expert_feed_forward_length=hidden)
    to.keys(expert_shared_feed_forward_length=hidden)
    ssm_keys(to, values * width, width, values, keys)
    to.embedding(65536, dim, tied=False)
    for i in range(layers):
        blk = f"blk.{i}."
        to.ones("attn_norm post_attention_norm", dim, blk)
        if i % 4 == 3:
            to.matrix(f"{blk}attn_q", 2 * 16 * 256, dim)
            to.matrix(f"{blk}attn_k", 2 * 256, dim)
            to.matrix(f"{blk}attn_v", 2 * 256, dim)
            to.matrix(f"{blk}attn_output", dim, 16 * 256)
            to.ones("attn_q_norm attn_k_norm", 256, blk)
        else:
            delta(to, blk, dim, keys, values, width)
        to.router(blk, dim, experts)
        to.network(blk, dim, hidden, "_exps", experts)
        to.floats(f"{blk}ffn_gate_inp_shexp.weight", dim, scale=dim**-0.5)
        to.network(blk, dim, hidden, "_shexp")
    to.finish()


def delta(to: Sketch, blk: str, dim: int, keys: int, values: int, width: int) -> None:
    mixed = (2 * keys + values) * width
    to.matrix(f"{blk}attn_qkv", mixed, dim)
    to.matrix(f"{blk}attn_gate", values * width, dim)
    to.floats(f"{blk}ssm_conv1d.weight", mixed, 4, scale=0.5)
    to.floats(f"{blk}ssm_dt.bias", values)
    decays(to, f"{blk}ssm_a", values)
    to.matrix(f"{blk}ssm_ba", 2 * values, dim)
    to.ones("ssm_norm", width, blk)
    to.matrix(f"{blk}ssm_out", dim, values * width)


RECURRENT = {
    "granite-hybrid": Shape("Granite 4.0 H Micro, 10 of 40 layers", granite_hybrid),
    "qwen3-next": Shape("Qwen3 Next 80B-A3B, 4 of 48 layers, 32 of 512 experts, half the vocabulary", qwen3_next),
    "nemotron-h": Shape("Nemotron Nano 9B's kind at 4B's width, 8 of 42 layers, half the vocabulary", nemotron_h),
    "jamba": Shape("Jamba Reasoning 3B, 8 of 28 layers", jamba),
}
