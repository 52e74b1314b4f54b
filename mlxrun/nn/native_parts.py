"""What native steps are handed of blocks: weights in the kernels' form, norms, routings."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..ops.native import native
from ..ops.quantized import Matrix, Packed
from ..spec import Temperature
from .moe import ExpertLinear, RouterBlock
from .norm import HeadNorms, NormBlock


class Unpacked(Exception):
    """A weight is in another form, so this is done otherwise."""


def packed(weight: Matrix) -> Packed:
    if not isinstance(weight, Packed):
        raise Unpacked
    return weight


def packed_heads(weight: Any, *, turned: bool) -> Packed:
    """(H, out, in), or with its last axes turned."""
    if not isinstance(weight, mx.array):
        raise Unpacked
    made: Packed = native.pack_plain(weight.swapaxes(-1, -2) if turned else weight)
    return made


def norm_of(norm: NormBlock | HeadNorms | None) -> Any:
    if norm is None:
        return None
    if isinstance(norm, HeadNorms):
        return native.RowNorm(norm.weight.reshape(-1), None, norm.eps, norm.norm.centred)
    return native.RowNorm(norm.weight, norm.bias, norm.eps, norm.centred)


def is_rms(norm: NormBlock | None) -> bool:
    """What a product does to its rows as it takes them in."""
    return norm is not None and not norm.centred


def temperature_of(t: Temperature | None) -> list[float]:
    return [] if t is None else [t.beta, t.floor, t.shift]


def routing_of(router: RouterBlock) -> Any:
    s = router.spec
    return native.Routing(
        s.top_k,
        score=s.score,
        renorm=s.renorm,
        renorm_eps=s.renorm_eps,
        scale=s.scale,
        groups=s.groups,
        top_groups=s.top_groups,
        jitter=s.jitter,
        select_bias=router.select_bias,
        expert_scale=router.expert_scale,
    )


def bias_of(part: ExpertLinear | None) -> mx.array | None:
    return None if part is None else part.bias
