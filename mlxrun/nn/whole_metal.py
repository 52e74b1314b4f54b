"""The branches of a layer, norm and residual included, in the few launches that `ops.metal` makes of them.

For layers whose wiring is the plain one, where Metal kernels may run. A branch asks at every call: a shape
that is not served, or that MLX does quicker, takes the block's own way. None: this block does not join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops import metal
from ..ops.choose import chooser
from ..ops.fused import Turn
from ..ops.quantized import QuantizedWeight
from .attention import AttentionBlock
from .batch import Pass
from .dense import DenseBlock
from .linear import Linear
from .moe import MoEBlock
from .norm import NormBlock

Branch = Callable[[mx.array, Pass, Sequence[LayerMemory | None]], mx.array]
Rows = Callable[[mx.array], mx.array]


def attention_branch(block: AttentionBlock, norm: NormBlock) -> Branch | None:
    """x (T, dim) -> x + attention(norm(x))."""
    heads = _heads(block, norm)
    if heads is None:
        return None
    size, o = block.spec.head_dim, _quantized(block.o)

    def branch(x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        turn = _turn(block, p)
        one_table = block.rotary is None or turn is not None
        made = heads(x, turn, p.positions) if one_table and p.total <= 4 else None
        if made is None:
            return x + block(norm(x), p, memories)
        q, k, v = (p.fold(a.reshape(p.total, -1), a.shape[1], size) for a in made)
        y = block.look(q, block.remember(k, v, p, memories), p)
        joined = metal.add_matmul(y, o, x, block.o.bias) if o is not None else None
        return x + block.o(y) if joined is None else joined

    return branch


def dense_branch(block: DenseBlock, norm: NormBlock) -> Rows | None:
    """x (T, dim) -> x + feed_forward(norm(x))."""
    added = _added(block, norm)
    return None if added is None else lambda x: added(x, x)


def experts_branch(block: MoEBlock, norm: NormBlock) -> Rows | None:
    """x (T, dim) -> x + experts(norm(x)), for mixtures without projections of their own around the experts."""
    s, own, r = block.spec, norm.rms, block.router
    if not chooser.possible() or own is None or block.gate is None:
        return None
    if s.latent or s.scale_input or s.router.norm or s.router.expert_scale or s.router.score == "sparsemixer":
        return None
    router, gate, up, down = r.linear.weight, block.gate.weight, block.up.weight, block.down.weight
    if not isinstance(router, QuantizedWeight | mx.array) or not isinstance(gate, QuantizedWeight):
        return None
    if not (isinstance(up, QuantizedWeight) and isinstance(down, QuantizedWeight)):
        return None
    select = None if r.select_bias is None else r.select_bias.astype(mx.float32)
    biases = tuple(linear.bias for linear in (block.gate, block.up, block.down) if linear.bias is not None)
    joined = metal.Experts(own, router, gate, up, down, s.router, select, s.act, r.linear.bias, biases)
    shared = None if block.shared is None or block.shared_gate is not None else _added(block.shared, norm)

    def branch(x: mx.array) -> mx.array:
        y = joined(x) if block.routed is None else None
        if y is None:
            return x + block(norm(x))
        if block.shared is None:
            return y
        return y + block.beside(norm(x)) if shared is None else shared(y, x)

    return branch


def _added(block: DenseBlock, norm: NormBlock) -> Callable[[mx.array, mx.array], mx.array] | None:
    """y, x (T, dim) -> y + feed_forward(norm(x))."""
    own, gate = norm.rms, block.gate
    if not chooser.possible() or own is None or gate is None:
        return None
    three = [_quantized(linear) for linear in (gate, block.up, block.down)]
    if any(linear.bias is not None for linear in (gate, block.up, block.down)):
        return None
    gate_w, up, down = three
    if gate_w is None or up is None or down is None:
        return None
    act = block.spec.act

    def added(y: mx.array, x: mx.array) -> mx.array:
        made = metal.add_feed_forward(y, x, own, gate_w, up, down, act)
        return y + block(norm(x)) if made is None else made

    return added


def _heads(block: AttentionBlock, norm: NormBlock) -> metal.Heads | None:
    s, own = block.spec, norm.rms
    if not chooser.possible() or own is None or block.v_norm is not None or block.k is None or block.v is None:
        return None
    if s.gate or s.clip is not None or s.temperature is not None or s.lends is not None:
        return None
    three = (block.q, block.k, block.v)
    q, k, v = (_quantized(linear) for linear in three)
    if q is None or k is None or v is None:
        return None
    head_norms = None
    if block.q_norm is not None and block.k_norm is not None:
        q_norm, k_norm = block.q_norm.rms, block.k_norm.rms
        if q_norm is None or k_norm is None or q_norm.eps != k_norm.eps:
            return None
        if s.qk_norm_scope == "all" or s.qk_norm_after_rope:
            return None
        head_norms = q_norm, k_norm
    biases = [linear.bias for linear in three if linear.bias is not None]
    if len(biases) not in (0, 3) or len({(w.mode, w.bits, w.group) for w in (q, k, v)}) > 1:
        return None
    return metal.Heads(own, (q, k, v), mx.concatenate(biases) if biases else None, s.head_dim, head_norms)


def _turn(block: AttentionBlock, p: Pass) -> Turn | None:
    return block.rotary.turn(p) if block.rotary is not None and block.rotary.one_table(p) else None


def _quantized(linear: Linear) -> QuantizedWeight | None:
    return linear.weight if isinstance(linear.weight, QuantizedWeight) else None
