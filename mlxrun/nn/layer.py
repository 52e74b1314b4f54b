"""One layer: a mixer, a feed-forward network, and how the two are wired to the residual.

The wiring is chosen when the layer is built; a step has no branches to take. A layer knows neither
its number nor its family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from ..contracts import LayerMemory
from ..ops.fast_forms import ATTENTION, DENSE, METAL_ATTENTION, METAL_DENSE, METAL_EXPERTS
from ..spec import (
    Attention,
    ChannelDelta,
    Dense,
    DenseAndExperts,
    GatedDelta,
    GatedLinear,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    MoE,
    Norm,
    PerLayerInput,
    ScaledDense,
    ShortConv,
    SideBySide,
    XieluDense,
)
from . import whole, whole_metal
from .after import After
from .attention import AttentionBlock
from .batch import Pass
from .cross import CrossBlock
from .delta import ChannelDeltaBlock, GatedDeltaBlock
from .dense import DenseBlock, ScaledDenseBlock, XieluDenseBlock
from .gated_linear import GatedLinearBlock
from .latent import LatentAttentionBlock
from .mamba1 import Mamba1Block
from .mamba2 import Mamba2Block
from .moe import DenseAndExpertsBlock, MoEBlock
from .norm import NormBlock
from .params import Params
from .per_layer import PerLayerBlock
from .short_conv import ShortConvBlock
from .side_by_side import SideBySideBlock

MIXERS: dict[type, Any] = {
    Attention: AttentionBlock,
    LatentAttention: LatentAttentionBlock,
    GatedDelta: GatedDeltaBlock,
    ChannelDelta: ChannelDeltaBlock,
    ShortConv: ShortConvBlock,
    GatedLinear: GatedLinearBlock,
    Mamba1: Mamba1Block,
    Mamba2: Mamba2Block,
    SideBySide: SideBySideBlock,
}
FEED_FORWARDS: dict[type, Any] = {
    Dense: DenseBlock,
    ScaledDense: ScaledDenseBlock,
    XieluDense: XieluDenseBlock,
    MoE: MoEBlock,
    DenseAndExperts: DenseAndExpertsBlock,
}

Mix = Callable[[mx.array, Pass, Sequence[LayerMemory | None]], mx.array]
Rows = Callable[[mx.array], mx.array]


class LayerBlock:
    def __init__(self, spec: Layer, dim: int, per_layer: PerLayerInput | None, params: Params) -> None:
        self.mixer: Mix | None = None
        self.ffn: Rows | None = None
        if spec.mixer is not None:
            self.mixer = MIXERS[type(spec.mixer)](spec.mixer, dim, params.scope("mixer"))
        if spec.ffn is not None:
            self.ffn = FEED_FORWARDS[type(spec.ffn)](spec.ffn, dim, params.scope("ffn"))

        def norm(name: str, norm_spec: Norm | None) -> NormBlock | None:
            return None if norm_spec is None else params.norm(name, norm_spec, dim)

        self.mixer_norm = norm("mixer_norm", spec.mixer_norm)
        self.after_mixer = After(norm("mixer_post", spec.mixer_post), spec.residual)
        self.cross = None
        if spec.cross is not None:
            self.cross = CrossBlock(spec.cross, dim, norm("cross_norm", spec.cross_norm), params.scope("cross"))
        self.ffn_norm = norm("ffn_norm", spec.ffn_norm)
        self.after_ffn = After(norm("ffn_post", spec.ffn_post), spec.residual)
        self.after_both = After(None, spec.residual)
        self.extra = None
        if spec.per_layer_input and per_layer is not None:
            self.extra = PerLayerBlock(per_layer, dim, params.scope("per_layer"))
        self.out_scale = params.array("out_scale", 1) if spec.out_scale else None
        self.mix: Mix = self._mix
        self.feed: Rows = self._feed
        if params.adapted is None:
            self._join(spec)
        self.wiring = spec.wiring
        wirings = {"parallel": self._parallel, "post": self._post}
        self.wire = wirings.get(spec.wiring, self._serial)

    def __call__(
        self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None], extra: mx.array | None = None
    ) -> mx.array:
        """x (T, dim) -> (T, dim); `extra` (T, per-layer dim) where the model feeds every layer."""
        x = self.wire(x, p, memories)
        if self.extra is not None and extra is not None:
            x = self.extra(x, extra)
        return x if self.out_scale is None else x * self.out_scale

    def _serial(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        if self.mixer is not None:
            x = self.mix(x, p, memories)
        if self.cross is not None:
            x = self.cross(x, p)
        return x if self.ffn is None else self.feed(x)

    def _join(self, spec: Layer) -> None:
        """Branches that can be done in fewer nodes are."""
        mixer, ffn, before_mixer, before_ffn = self.mixer, self.ffn, self.mixer_norm, self.ffn_norm
        if isinstance(mixer, AttentionBlock) and before_mixer is not None:
            attention = whole.attention_parts(mixer, before_mixer) if ATTENTION.serves(spec) else None
            if attention is not None:
                self.mix = whole.attention_branch(mixer, before_mixer, attention)
            elif METAL_ATTENTION.serves(spec):
                self.mix = whole_metal.attention_branch(mixer, before_mixer, self.after_mixer) or self.mix
        if isinstance(ffn, DenseBlock) and before_ffn is not None:
            dense = whole.dense_branch(ffn, before_ffn) if DENSE.serves(spec) else None
            if dense is not None:
                self.feed = dense
            elif METAL_DENSE.serves(spec):
                self.feed = whole_metal.dense_branch(ffn, before_ffn, self.after_ffn) or self.feed
        if isinstance(ffn, MoEBlock) and before_ffn is not None and METAL_EXPERTS.serves(spec):
            self.feed = whole_metal.experts_branch(ffn, before_ffn) or self.feed

    def _mix(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        assert self.mixer is not None
        h = x if self.mixer_norm is None else self.mixer_norm(x)
        return self.after_mixer(x, self.mixer(h, p, memories))

    def _feed(self, x: mx.array) -> mx.array:
        assert self.ffn is not None
        h = x if self.ffn_norm is None else self.ffn_norm(x)
        return self.after_ffn(x, self.ffn(h))

    def _parallel(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        assert self.mixer is not None
        assert self.ffn is not None
        h = x if self.mixer_norm is None else self.mixer_norm(x)
        f = h if self.ffn_norm is None else self.ffn_norm(x)
        return self.after_both(x, self.mixer(h, p, memories) + self.ffn(f))

    def _post(self, x: mx.array, p: Pass, memories: Sequence[LayerMemory | None]) -> mx.array:
        assert self.mixer is not None
        assert self.ffn is not None
        assert self.mixer_norm is not None
        assert self.ffn_norm is not None
        x = self.mixer_norm(x + self.mixer(x, p, memories))
        return self.ffn_norm(x + self.ffn(x))
