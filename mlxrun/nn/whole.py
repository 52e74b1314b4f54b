"""The branches of a layer, norm and residual included, in as few nodes as `ops.fused` makes of them.

For blocks that `ops.fast_forms` says are understood. None: their weights are in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops.fused import AttentionParts, FeedForward, Heads, Rms, add_matmul, all_packed
from .attention import AttentionBlock
from .batch import Pass
from .dense import DenseBlock
from .linear import Linear
from .norm import NormBlock

Branch = Callable[[mx.array, Pass, Sequence[LayerMemory | None]], mx.array]


def projections(block: AttentionBlock) -> tuple[Linear, Linear, Linear]:
    assert block.k is not None
    assert block.v is not None
    return block.q, block.k, block.v


def head_norms(block: AttentionBlock) -> tuple[Rms, Rms] | None:
    return None if block.q_norm is None or block.k_norm is None else (block.q_norm.rms, block.k_norm.rms)


def attention_parts(block: AttentionBlock, norm: NormBlock) -> AttentionParts | None:
    three = projections(block)
    weights, out = [linear.weight for linear in three], [block.o.weight]
    if not all_packed(weights) or not all_packed(out):
        return None
    heads = Heads(
        weights, [linear.bias for linear in three], block.spec.head_dim, norm.rms, head_norms(block), block.device
    )
    return AttentionParts(heads, out[0], block.o.bias)


def attention_branch(block: AttentionBlock, norm: NormBlock, parts: AttentionParts) -> Branch:
    """x (T, dim) -> x + attention(norm(x))."""
    rotary = block.rotary

    def branch(x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        turn = None
        if rotary is not None:
            if not rotary.one_table(p):
                return x + block(norm(x), p, memories)
            turn = rotary.turn(p)
        q, k, v = parts.heads(x, turn, one_sequence=len(p.segments) == 1, narrow=block.packed is None)
        y = block.look(q, (k, v), p, memories)
        return add_matmul(y, parts.out, parts.out_bias, x, block.device)

    return branch


def dense_branch(block: DenseBlock, norm: NormBlock) -> FeedForward | None:
    """x (T, dim) -> x + feed_forward(norm(x))."""
    weights = [linear.weight for linear in (block.up, block.down, *([block.gate] if block.gate else []))]
    if not all_packed(weights):
        return None
    gate = weights[2] if block.gate else None
    return FeedForward(norm.rms, gate, weights[0], weights[1], block.spec.act, block.device)
