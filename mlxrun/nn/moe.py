"""Mixtures of experts, and Gemma 4's pair of a dense network and experts.

The router's logits, weights and the weighted sum are float32, whatever the model's type.
"""

from __future__ import annotations

import mlx.core as mx

from ..ops.activations import activation, glu
from ..ops.adapters import AdapterPart
from ..ops.device import Device
from ..ops.experts import Dispatch, dispatch, expert_matmul
from ..ops.frozen import FrozenMatrix
from ..ops.fused import Experts
from ..ops.quantized import Matrix, Packed
from ..ops.route import route
from ..spec import DenseAndExperts, MoE, Router
from .dense import DenseBlock
from .linear import AdaptedLinear, AdaptedRows, Linear
from .params import Params


class RouterBlock:
    def __init__(self, spec: Router, experts: int, dim: int, params: Params) -> None:
        self.spec = spec
        weight = params.matrix("router.weight", experts, dim)
        bias = params.array("router.bias", experts) if spec.bias else None
        wide = weight.astype(mx.float32) if isinstance(weight, mx.array) else weight
        self.linear = self._linear(wide, bias, params)
        self.select_bias = params.array("select_bias", experts) if spec.select_bias else None
        self.expert_scale = params.array("expert_scale", experts) if spec.expert_scale else None
        self.scale = None
        if spec.norm is not None:
            self.scale = params.array("router_scale", dim).astype(mx.float32) * dim**-0.5

    def _linear(self, weight: Matrix, bias: mx.array | None, params: Params) -> Linear:
        adapted = params.adapted if adapts_experts(params) else None
        if adapted is None:
            return Linear(weight, params.device, bias)
        own = params.named("router.weight")
        made = adapted.routed[own] = AdaptedLinear(weight, params.device, bias, own, adapted.rows)
        return made

    def __call__(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """x (T, dim) -> expert ids and weights (T, k)."""
        x = x.astype(mx.float32)
        if self.spec.norm is not None:
            x = mx.fast.rms_norm(x, self.scale, self.spec.norm.eps)
        ids, weights = route(self.linear(x), self.spec, self.select_bias)
        return ids, weights if self.expert_scale is None else weights * self.expert_scale[ids]


class ExpertLinear:
    """One matrix for each expert."""

    __slots__ = ("bias", "device", "weight")

    def __init__(self, weight: Matrix, device: Device, bias: mx.array | None) -> None:
        self.weight, self.device, self.bias = weight, device, bias

    @classmethod
    def of(cls, params: Params, name: str, shape: tuple[int, int, int], *, bias: bool) -> ExpertLinear:
        weight = params.matrix(f"{name}.weight", *shape)
        added = params.array(f"{name}.bias", *shape[:2]) if bias else None
        if params.adapted is None or not adapts_experts(params):
            return cls(weight, params.device, added)
        own = params.named(f"{name}.weight")
        made = params.adapted.routed[own] = AdaptedExpertLinear(weight, params.device, added, own, params.adapted.rows)
        return made

    def __call__(self, x: mx.array, d: Dispatch) -> mx.array:  # (..., 1, in) -> (..., 1, out)
        assert not isinstance(self.weight, Packed | FrozenMatrix)
        return expert_matmul(x, self.weight, d, self.device, self.bias)


def adapts_experts(params: Params) -> bool:
    """Native kernels join what a layer's experts do, and adapters have no place in that."""
    return params.adapted is not None and not params.device.native


class AdaptedExpertLinear(ExpertLinear):
    """One that adapters may change, each for the rows of its sequences."""

    __slots__ = ("name", "rows")

    def __init__(self, weight: Matrix, device: Device, bias: mx.array | None, name: str, rows: AdaptedRows) -> None:
        super().__init__(weight, device, bias)
        self.name, self.rows = name, rows

    def __call__(self, x: mx.array, d: Dispatch) -> mx.array:
        y = super().__call__(x, d)
        for start, count, adapter in self.rows.spans:
            part = adapter.parts.get(self.name)
            if part is not None:
                y = y + self._added(x, d, part) * d.spread_rows(start, count)
        return y

    def _added(self, x: mx.array, d: Dispatch, part: AdapterPart) -> mx.array:
        assert isinstance(part.a, mx.array)
        assert isinstance(part.b, mx.array)
        low = expert_matmul(x.astype(mx.float32), part.a, d, self.device)
        return (expert_matmul(low, part.b, d, self.device) * part.scale).astype(x.dtype)


class MoEBlock:
    def __init__(self, spec: MoE, dim: int, params: Params) -> None:
        s = self.spec = spec
        self.device = params.device
        width = s.latent or dim
        self.router = RouterBlock(s.router, s.experts, dim, params)
        up, down = (s.experts, s.hidden, width), (s.experts, width, s.hidden)
        self.gate = ExpertLinear.of(params, "experts.gate", up, bias=s.bias) if s.gated else None
        self.up = ExpertLinear.of(params, "experts.up", up, bias=s.bias)
        self.down = ExpertLinear.of(params, "experts.down", down, bias=s.bias)
        self.glu = glu(s.act) if s.gated else None
        self.act = None if s.gated else activation(s.act)
        gate = self.gate.weight if self.gate else None
        biases = [self.gate.bias if self.gate else None, self.up.bias, self.down.bias]
        self.joined = Experts.of(gate, self.up.weight, self.down.weight, biases, s.act, params.device)
        self.shared = DenseBlock(s.shared, dim, params.scope("shared")) if s.shared else None
        self.shared_gate = params.linear("shared_gate", 1, dim) if s.shared_gate else None
        self.latent_in = params.linear("latent_in", width, dim) if s.latent else None
        self.latent_out = params.linear("latent_out", dim, width) if s.latent else None

    def __call__(self, x: mx.array, routed_by: mx.array | None = None) -> mx.array:
        """x (T, dim) -> (T, dim); the router reads `routed_by` where that is something else."""
        ids, weights = self.router(x if routed_by is None else routed_by)
        y = self._experts(x if self.latent_in is None else self.latent_in(x), ids, weights)
        if self.latent_out is not None:
            y = self.latent_out(y)
        return y if self.shared is None else y + self.beside(x)

    def _experts(self, x: mx.array, ids: mx.array, weights: mx.array) -> mx.array:
        if self.joined is None:
            return self._apart(x, ids, weights)
        if not self.spec.scale_input:
            return self.joined(x, ids, weights)
        rows = (mx.expand_dims(x, 1) * mx.expand_dims(weights, -1)).astype(x.dtype)  # (T, k, width)
        y = self.joined(rows.reshape(-1, x.shape[-1]), ids.reshape(-1, 1), mx.ones((ids.size, 1)))
        return y.reshape(*ids.shape, -1).sum(axis=1)

    def _apart(self, x: mx.array, ids: mx.array, weights: mx.array) -> mx.array:
        d = dispatch(ids)
        rows = d.spread(x)  # (..., 1, width)
        if self.spec.scale_input:
            rows = (rows * d.spread_pairs(weights)).astype(x.dtype)
        y = d.collect(self.down(self._hidden(rows, d), d)).astype(mx.float32)  # (T, k, width)
        if not self.spec.scale_input:
            y = y * mx.expand_dims(weights, -1)
        return y.sum(axis=1).astype(x.dtype)

    def _hidden(self, rows: mx.array, d: Dispatch) -> mx.array:
        if self.gate is not None and self.glu is not None:
            return self.glu(self.gate(rows, d), self.up(rows, d))
        assert self.act is not None
        return self.act(self.up(rows, d))

    def beside(self, x: mx.array) -> mx.array:
        """What every row gets, whichever experts serve it."""
        assert self.shared is not None
        y = self.shared(x)
        return y if self.shared_gate is None else y * mx.sigmoid(self.shared_gate(x))


class DenseAndExpertsBlock:
    """Both read the residual, each through norms of its own; the router reads it as it is."""

    def __init__(self, spec: DenseAndExperts, dim: int, params: Params) -> None:
        self.dense = DenseBlock(spec.dense, dim, params.scope("dense"))
        self.moe = MoEBlock(spec.moe, dim, params.scope("moe"))
        names = ("dense_norm", "dense_post", "experts_norm", "experts_post")
        self.dense_norm, self.dense_post, self.experts_norm, self.experts_post = (
            params.norm(name, spec.norm, dim) for name in names
        )

    def __call__(self, x: mx.array) -> mx.array:  # (T, dim) -> (T, dim)
        dense = self.dense_post(self.dense(self.dense_norm(x)))
        return dense + self.experts_post(self.moe(self.experts_norm(x), routed_by=x))
