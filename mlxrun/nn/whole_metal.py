"""The branches of a layer, norm and residual included, in the few launches that `ops.metal` makes of them.

For blocks that `ops.fast_forms` says are understood, where Metal kernels may run. A branch asks at every call: a
shape that is not served, or that MLX does quicker, takes the block's own way. None: these weights do not join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops import metal
from ..ops.fast_forms import METAL_DENSE
from ..ops.fused import Rotation
from ..ops.quantized import QuantizedWeight, same_layout
from .after import After
from .attention import AttentionBlock
from .batch import Pass
from .dense import DenseBlock
from .linear import Linear
from .moe import MoEBlock
from .norm import NormBlock
from .whole import Branch, head_norms, projections

Rows = Callable[[mx.array], mx.array]


def attention_branch(block: AttentionBlock, norm: NormBlock, after: After) -> Branch | None:
    """x (T, dim) -> after(x, attention(norm(x)))."""
    heads = _heads(block, norm) if block.device.chooser.possible() else None
    if heads is None:
        return None
    size, o = block.spec.head_dim, _quantized(block.o)

    def branch(x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        turn = _turn(block, p)
        one_table = block.rotary is None or turn is not None
        made = heads(x, turn, p.turned) if one_table and p.total <= 4 else None
        if made is None:
            return after(x, block(norm(x), p, memories))
        q, k, v = (p.fold(a.reshape(p.total, -1), a.shape[1], size) for a in made)
        y = block.look(q, (k, v), p, memories)
        joined = None
        if o is not None and after.post is None:
            joined = metal.add_matmul(y, o, x, block.o.bias, block.device.chooser, after.residual)
        return after(x, block.o(y)) if joined is None else joined

    return branch


def dense_branch(block: DenseBlock, norm: NormBlock, after: After) -> Rows | None:
    """x (T, dim) -> after(x, feed_forward(norm(x)))."""
    fed = _feed_forward(block, norm, after.residual if after.post is None else 1.0)
    if fed is None:
        return None

    def branch(x: mx.array) -> mx.array:
        if after.post is None:
            joined = fed(x, x)
            return after(x, block(norm(x))) if joined is None else joined
        made = fed(None, x)
        return after(x, block(norm(x)) if made is None else made)

    return branch


def experts_branch(block: MoEBlock, norm: NormBlock) -> Rows | None:
    """x (T, dim) -> x + experts(norm(x))."""
    if not block.device.chooser.possible() or block.gate is None:
        return None
    r = block.router
    router, gate, up, down = r.linear.weight, block.gate.weight, block.up.weight, block.down.weight
    if not isinstance(router, QuantizedWeight | mx.array) or not isinstance(gate, QuantizedWeight):
        return None
    if not (isinstance(up, QuantizedWeight) and isinstance(down, QuantizedWeight)):
        return None
    select = None if r.select_bias is None else r.select_bias.astype(mx.float32)
    biases = tuple(linear.bias for linear in (block.gate, block.up, block.down) if linear.bias is not None)
    own, act = block.device.chooser, block.spec.act
    joined = metal.MetalExperts(norm.rms, router, gate, up, down, r.spec, select, act, own, r.linear.bias, biases)
    joins = block.shared is not None and block.shared_gate is None and METAL_DENSE.serves(block.shared.spec)
    shared = _added(block.shared, norm) if block.shared is not None and joins else None

    def branch(x: mx.array) -> mx.array:
        y = joined(x)
        if y is None:
            return x + block(norm(x))
        if block.shared is None:
            return y
        return y + block.beside(norm(x)) if shared is None else shared(y, x)

    return branch


def _added(block: DenseBlock, norm: NormBlock) -> Callable[[mx.array, mx.array], mx.array] | None:
    """y, x (T, dim) -> y + feed_forward(norm(x))."""
    fed = _feed_forward(block, norm, 1.0)
    if fed is None:
        return None

    def added(y: mx.array, x: mx.array) -> mx.array:
        made = fed(y, x)
        return y + block(norm(x)) if made is None else made

    return added


def _feed_forward(block: DenseBlock, norm: NormBlock, scale: float) -> metal.MetalFeedForward | None:
    if not block.device.chooser.possible() or block.gate is None:
        return None
    gate, up, down = [_quantized(linear) for linear in (block.gate, block.up, block.down)]
    if gate is None or up is None or down is None:
        return None
    return metal.MetalFeedForward(norm.rms, gate, up, down, block.spec.act, block.device.chooser, scale)


def _heads(block: AttentionBlock, norm: NormBlock) -> metal.MetalHeads | None:
    three = projections(block)
    q, k, v = (_quantized(linear) for linear in three)
    if q is None or k is None or v is None or not same_layout([q, k, v]):
        return None
    biases = [linear.bias for linear in three if linear.bias is not None]
    joined = mx.concatenate(biases) if biases else None
    size, chooser = block.spec.head_dim, block.device.chooser
    return metal.MetalHeads(norm.rms, (q, k, v), joined, size, head_norms(block), chooser)


def _turn(block: AttentionBlock, p: Pass) -> Rotation | None:
    return block.rotary.turn(p) if block.rotary is not None and block.rotary.one_table(p) else None


def _quantized(linear: Linear) -> QuantizedWeight | None:
    return linear.weight if isinstance(linear.weight, QuantizedWeight) else None
