"""The branches of a layer, norm and residual included, in as few nodes as `ops.fused` makes of them.

For layers whose wiring is the plain one. None: this block has something that does not join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops.fused import AttentionParts, FeedForward, Heads, add_matmul, packed
from .attention import AttentionBlock
from .batch import Pass
from .dense import DenseBlock
from .linear import Linear
from .norm import NormBlock

Branch = Callable[[mx.array, Pass, Sequence[LayerMemory | None]], mx.array]


def attention_parts(block: AttentionBlock, norm: NormBlock) -> AttentionParts | None:
    s, own = block.spec, norm.rms
    if own is None or s.gate or s.clip is not None or s.temperature is not None or block.v_norm is not None:
        return None
    if block.k is None or block.v is None or s.lends is not None:
        return None
    head_norms = None
    if block.q_norm is not None and block.k_norm is not None:
        q, k = block.q_norm.rms, block.k_norm.rms
        if q is None or k is None or q.eps != k.eps or s.qk_norm_scope == "all" or s.qk_norm_after_rope:
            return None
        head_norms = q, k
    three: tuple[Linear, ...] = (block.q, block.k, block.v)
    weights, out = [linear.weight for linear in three], [block.o.weight]
    if not packed(weights) or not packed(out):
        return None
    heads = Heads(weights, [linear.bias for linear in three], s.head_dim, own, head_norms)
    return AttentionParts(heads, out[0], block.o.bias, block.sinks, s.scale, block.rotary is not None)


def attention_branch(block: AttentionBlock, norm: NormBlock, parts: AttentionParts) -> Branch:
    """x (T, dim) -> x + attention(norm(x))."""
    rotary = block.rotary

    def branch(x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        turn = None
        if rotary is not None:
            if not rotary.one_table(p):
                return x + block(norm(x), p, memories)
            turn = rotary.turn(p)
        q, k, v = parts.heads(x, turn, one_sequence=len(p.segments) == 1)
        y = block.look(q, block.remember(k, v, p, memories), p)
        return add_matmul(y, parts.out, parts.out_bias, x)

    return branch


def dense_branch(block: DenseBlock, norm: NormBlock) -> FeedForward | None:
    """x (T, dim) -> x + feed_forward(norm(x))."""
    own = norm.rms
    linears = [block.up, block.down, *([block.gate] if block.gate else [])]
    weights = [linear.weight for linear in linears]
    if own is None or any(linear.bias is not None for linear in linears) or not packed(weights):
        return None
    return FeedForward(own, weights[2] if block.gate else None, weights[0], weights[1], block.spec.act)
