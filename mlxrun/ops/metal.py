"""Our Metal kernels as the operations that blocks know: each serves a call, or says that it does not.

`None` means: not served, refused by the device, or MLX's own form is the one to use here; the caller then does what it
does anywhere.
One to four rows of x for all but `matmul` and `expert_rows`, which take any number. Those two are for weights that MLX
does not know as well: there ours runs without being asked for, in the type of the scales, to which MLX widens x too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeVar

import mlx.core as mx

from ..metal_kernels import experts, glue
from ..metal_kernels.attention import MOST_VALUES, Pages, ScoreRule, paged_attention
from ..metal_kernels.check import FLOATS, SMALL, serves
from ..metal_kernels.norms import Normed
from ..metal_kernels.products import FEW, MOST_VECTORS, qmm, qmm_experts, qmv, qmv_few
from ..metal_kernels.tiles import Cut
from ..spec import Router
from .choose import Chooser, key
from .fused import Rms, Rotation
from .quantized import QuantizedWeight, same_layout

Made = TypeVar("Made")
ALONE = ("matmul", "sorted")  # operations on one weight: of what MLX does not know, ours is the only form
PAGES_HEADS = (64, 256)  # sizes of a head that attention over pages is meant for


def matmul(x: mx.array, w: QuantizedWeight, chooser: Chooser) -> mx.array | None:
    """(..., in) x (out, in) -> (..., out)."""
    rows = x.size // x.shape[-1]
    if not w.in_mlx:
        x = x.astype(w.scales.dtype)
    if x.size == 0 or (rows > MOST_VECTORS and w.shape[-1] % 32):
        return None
    flat = x.reshape(rows, x.shape[-1])

    def product(cut: Cut) -> mx.array:
        if rows <= MOST_VECTORS:
            return qmv(flat, w, cut.vector)
        return qmv_few(flat, w, cut.few) if rows <= FEW else qmm(flat, w, cut.matrix)

    y = _run(chooser, "matmul", rows, x.dtype, (w,), product)
    return None if y is None else y.reshape(*x.shape[:-1], y.shape[-1])


def add_matmul(
    x: mx.array,
    w: QuantizedWeight,
    residual: mx.array,
    bias: mx.array | None,
    chooser: Chooser,
    scale: float = 1.0,
) -> mx.array | None:
    """residual + scale * (x @ w.T (+ bias)) for rows (T, in)."""
    if residual.dtype != x.dtype:
        return None
    if bias is not None:
        residual = residual + (bias if scale == 1.0 else bias * scale)
    added = lambda cut: qmv(x, w, cut.vector, residual, scale)  # noqa: E731 one call
    return _few(chooser, "add", x, (w,), added)


@dataclass(frozen=True, slots=True)
class MetalHeads:
    """Queries, keys and values of rows (T, dim): normed, multiplied, their heads normed and turned."""

    norm: Rms
    weights: tuple[QuantizedWeight, QuantizedWeight, QuantizedWeight]
    biases: mx.array | None  # of all three, end to end
    size: int  # of a head
    head_norms: tuple[Rms, Rms] | None
    chooser: Chooser

    def __call__(self, x: mx.array, turn: Rotation | None, positions: mx.array) -> tuple[mx.array, ...] | None:
        """q (T, H, D), k and v (T, G, D)."""
        made = lambda cut: self._made(x, turn, positions, cut)  # noqa: E731 one call
        return _few(self.chooser, "heads", x, self.weights, made)

    def _made(self, x: mx.array, turn: Rotation | None, positions: mx.array, cut: Cut) -> tuple[mx.array, ...]:
        own = Normed(x, self.norm.weight, self.norm.eps)
        rows = glue.project(own, self.weights, self.biases, tile=cut.vector)
        queries, keys = (w.shape[0] // self.size for w in self.weights[:2])
        turned = None if turn is None else glue.HeadTurn(turn.freqs, turn.scale, turn.interleaved)
        norm = None
        if self.head_norms is not None:
            q_norm, k_norm = self.head_norms
            norm = glue.HeadNorm(q_norm.weight, k_norm.weight, q_norm.eps)
        q, k = glue.heads(rows, (queries, keys, self.size), positions, turned, norm)
        return q, k, rows[:, (queries + keys) * self.size :].reshape(x.shape[0], keys, self.size)


@dataclass(frozen=True, slots=True)
class MetalFeedForward:
    """y + scale * down(act(gate(norm(x))) * up(norm(x))), or that without y."""

    norm: Rms
    gate: QuantizedWeight
    up: QuantizedWeight
    down: QuantizedWeight
    act: str
    chooser: Chooser
    scale: float = 1.0

    def __call__(self, y: mx.array | None, x: mx.array) -> mx.array | None:
        if self.act not in experts.ACTIVATIONS or not same_layout([self.gate, self.up]):
            return None
        own = Normed(x, self.norm.weight, self.norm.eps)

        def fed(cut: Cut) -> mx.array:
            hidden = experts.gate_up(own, self.gate, self.up, self.act, tile=cut.experts)
            return qmv(hidden, self.down, cut.vector, y, self.scale)

        return _few(self.chooser, "feed", x, (self.gate, self.up, self.down), fed)


@dataclass(frozen=True, slots=True)
class MetalExperts:
    """x + the weighted sum of each row's experts, all of it after a norm."""

    norm: Rms
    router: QuantizedWeight | mx.array
    gate: QuantizedWeight  # (E, I, dim), as up; down (E, dim, I)
    up: QuantizedWeight
    down: QuantizedWeight
    spec: Router
    select_bias: mx.array | None  # float32
    act: str
    chooser: Chooser
    router_bias: mx.array | None = None
    biases: tuple[mx.array, ...] = ()  # of gate, up and down, or none

    def __call__(self, x: mx.array) -> mx.array | None:
        if not same_layout([self.gate, self.up]) or not (
            isinstance(self.router, mx.array) or serves(self.router, x.dtype)
        ):
            return None
        weights = (self.gate, self.up, self.down)
        return _few(self.chooser, "experts", x, weights, lambda cut: self._made(x, cut))

    def _made(self, x: mx.array, cut: Cut) -> mx.array:
        own, s = Normed(x, self.norm.weight, self.norm.eps), self.spec
        rule = experts.Rule(s.top_k, s.score, s.renorm, s.scale, s.groups, s.top_groups)
        ids, weights = experts.route(self._logits(own, cut), rule, self.select_bias)
        hidden = experts.experts_in(own, ids, self.gate, self.up, self.act, self.biases[:2], cut.experts)
        return experts.experts_out(hidden, ids, weights, self.down, *self.biases[2:], residual=x, tile=cut.experts)

    def _logits(self, x: Normed, cut: Cut) -> mx.array:
        if isinstance(self.router, mx.array):
            return experts.router_logits(x, self.router, self.router_bias, cut.experts)
        return glue.project(x, [self.router], self.router_bias, mx.float32, cut.vector)


def expert_rows(x: mx.array, w: QuantizedWeight, experts: mx.array, chooser: Chooser) -> mx.array | None:
    """x (N, in) sorted by expert, experts (N,) rising, w (E, out, in) -> (N, out)."""
    if not w.in_mlx:
        x = x.astype(w.scales.dtype)
    if w.shape[-1] % 32 or x.size == 0:
        return None
    ids = experts.astype(mx.uint32)
    return _run(chooser, "sorted", x.shape[0], x.dtype, (w,), lambda cut: qmm_experts(x, w, ids, cut.matrix))


def best_token(x: mx.array, norm: Rms | None, head: QuantizedWeight, chooser: Chooser) -> mx.array | None:
    """x (T, dim) -> (T,) int32: the token whose logit is largest after the norm, the first of equals, -1 where a
    logit is not a number; no logits are written."""
    rows = x if norm is None else Normed(x, norm.weight, norm.eps)
    return _few(chooser, "best", x, (head,), lambda cut: glue.greedy(rows, head, cut.vector).view(mx.int32))


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array | int,
    count: int,
    sight: ScoreRule,
    chooser: Chooser,
) -> mx.array | None:
    """One query over the first `count` keys: q (1, H, 1, D), k (1, G, S, D), v (1, G, S, Dv) -> (1, H, 1, Dv).

    `v` as a number: the values are that many of the first values of the keys. The buffers are one page, read where
    they lie.
    """
    values = k if isinstance(v, int) else v
    width = v if isinstance(v, int) else v.shape[3]
    if q.shape[0] != 1 or q.shape[2] != 1 or q.dtype not in FLOATS or not (q.dtype == k.dtype == values.dtype):
        return None
    low, high = (SMALL, MOST_VALUES) if isinstance(v, int) else PAGES_HEADS
    if not (low <= q.shape[3] <= high and low <= width <= high) or min(k.size, values.size) < SMALL:
        return None
    kind = "latent" if isinstance(v, int) else "capped" if sight.softcap else "attention"
    shape = "x".join(map(str, (q.shape[1], k.shape[1], q.shape[3], width)))
    stretch = 1 << max(8, (count - 1).bit_length())  # keys are told apart by powers of two
    if not chooser.possible():
        return None
    row, pages = q.reshape(1, q.shape[1], q.shape[3]), v if isinstance(v, int) else Pages(v)

    def attended(cut: Cut) -> mx.array:
        table, length = _one_page(count)
        y = paged_attention(row, Pages(k), pages, table, length, sight, cut.attention)
        return y.reshape(1, q.shape[1], 1, width)

    return chooser.run(f"{kind} {stretch} {shape} {str(q.dtype).split('.')[-1]}", attended)


@lru_cache(maxsize=8)
def _one_page(count: int) -> tuple[mx.array, mx.array]:
    """The table of a row whose keys are one page, and how many they are: made once for all layers, without a launch."""
    return mx.array([[0]], mx.uint32), mx.array([count], mx.int32)


@cache
def computes_groups_of_16(bits: int, dtype: mx.Dtype = mx.float32) -> bool:
    """Whether our kernels multiply by such affine weights on this device, and right: nothing else does, so before a
    model depends on them they are tried, with any codes, by a row, a few, many, and rows of several experts."""
    of_words, *of_groups, of_rows = mx.random.split(mx.random.key(bits), 4)
    words = mx.random.randint(-(1 << 31), (1 << 31) - 1, (2, 24, 512 * bits // 32), key=of_words).view(mx.uint32)
    scales, biases = (mx.random.normal((2, 24, 32), key=key).astype(dtype) for key in of_groups)
    both = QuantizedWeight(words, scales, biases, "affine", bits, 16)
    first, x, experts = both.rows(lambda part: part[0]), mx.random.normal((40, 512), key=of_rows), mx.arange(40) // 24
    x, chooser = x.astype(dtype), Chooser()  # asked for its policy alone: of such weights nothing is picked
    try:
        for rows in (1, 5, 40):
            if not _same(matmul(x[:rows], first, chooser), x[:rows] @ first.dequantize(mx.float32).T):
                return False
        full = both.dequantize(mx.float32)
        wanted = mx.concatenate([x[:24] @ full[0].T, x[24:] @ full[1].T])
        return _same(expert_rows(x, both, experts, chooser), wanted)
    except (RuntimeError, ValueError):  # the device refused a kernel
        return False


def _same(found: mx.array | None, wanted: mx.array) -> bool:
    """Up to some steps of the type, beside the largest."""
    if found is None:
        return False
    allowed = {mx.float32: 1e-3, mx.float16: 4e-3}.get(found.dtype, 2e-2)
    return bool(mx.abs(found.astype(mx.float32) - wanted).max() < allowed * mx.abs(wanted).max())


def _few(
    chooser: Chooser, op: str, x: mx.array, weights: Sequence[QuantizedWeight], form: Callable[[Cut], Made]
) -> Made | None:
    return None if x.shape[0] > MOST_VECTORS else _run(chooser, op, x.shape[0], x.dtype, weights, form)


def _run(
    chooser: Chooser,
    op: str,
    rows: int,
    dtype: mx.Dtype,
    weights: Sequence[QuantizedWeight],
    form: Callable[[Cut], Made],
) -> Made | None:
    """None where it is not served, the device refuses it, or MLX's form is the one to use."""
    if not chooser.possible() or dtype not in FLOATS or not all(serves(w, dtype) for w in weights):
        return None
    only = op in ALONE and not weights[0].in_mlx
    return chooser.run(key(op, rows, *weights, dtype=dtype), form, only=only)
