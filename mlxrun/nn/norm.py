"""RMS and layer norm, with or without weight."""

from __future__ import annotations

import mlx.core as mx

from ..ops.device import Device
from ..ops.fused import Rms
from ..ops.norm import layer_norm_on, rms_norm_on
from ..spec import Norm


class NormBlock:
    __slots__ = ("_layer_norm", "_rms_norm", "bias", "centred", "eps", "fn", "weight")

    def __init__(self, spec: Norm, device: Device, weight: mx.array | None, bias: mx.array | None = None) -> None:
        self.weight, self.bias, self.eps = weight, bias, spec.eps
        self._rms_norm, self._layer_norm = rms_norm_on(device), layer_norm_on(device)
        self.centred = spec.kind == "layer"  # the mean goes too
        self.fn = {"layer": self._layer, "rms": self._rms, "scale": self._scale}[spec.kind]

    @property
    def rms(self) -> Rms:
        """What a fused kernel needs to know of an RMS norm with a weight, the only kind that it can do."""
        assert self.weight is not None
        return Rms(self.weight, self.eps)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fn(x)

    def _rms(self, x: mx.array) -> mx.array:
        return self._rms_norm(x, self.weight, self.eps)

    def _scale(self, x: mx.array) -> mx.array:
        assert self.weight is not None
        return x * self.weight.astype(x.dtype)

    def _layer(self, x: mx.array) -> mx.array:
        return self._layer_norm(x, self.weight, self.bias, self.eps)


class HeadNorms:
    """A norm over each head with weights of its own, on folded rows (.., heads, rows, D) or (rows, heads, 1, D)."""

    __slots__ = ("eps", "norm", "weight")

    @property
    def rms(self) -> Rms:
        raise AssertionError("no fused kernel knows norms of each head's own")

    def __init__(self, spec: Norm, device: Device, weight: mx.array) -> None:
        self.norm, self.weight, self.eps = NormBlock(spec, device, None), weight[:, None], spec.eps  # (heads, 1, D)

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm(x) * self.weight.astype(x.dtype)
