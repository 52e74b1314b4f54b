"""What recurrent mixers do, told to the native stack step by step: projections, convolution, decays, scan, gate.

Blocks are read, never called. Each function is told the rows that its mixer reads, where its result goes and what is
added to that; `norm` is one that the first products do as they take their rows in. A step that remembers has a state of
every sequence: of a convolution, then of a scan, as the mixer itself would write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..ops.native import native
from .delta import L2_EPS, ChannelDeltaBlock, GatedDeltaBlock, QueryKeyValue
from .gated_linear import GatedLinearBlock
from .linear import Linear
from .mamba1 import Mamba1Block
from .mamba2 import Mamba2Block
from .native_parts import norm_of, packed_heads
from .recurrent import CausalConv
from .short_conv import ShortConvBlock

if TYPE_CHECKING:
    from .steps import LayerSteps


def mamba1(steps: LayerSteps, block: Mamba1Block, source: str, to: str, onto: str | None, norm: Any = None) -> None:
    s, stack = block.spec, steps.stack
    steps.products(source, {"projected": block.inp}, norm)  # the input, then its gate
    convolve(steps, block.conv, ["projected"], "mixed")
    steps.product(block.x, "mixed", "chosen")  # the step, B, C
    if block.norms is not None:
        at = 0
        for part, size in zip(block.norms, (s.dt_rank, s.state, s.state), strict=True):
            stack.normalise("chosen", at, size, 1, norm_of(part))
            at += size
    stack.activate("chosen", "identity", None, 0, "low", 0, s.dt_rank)
    steps.product(block.dt, "low", "steps")
    stack.pace("steps", 0, "softplus", block.dt_bias, None, 0.0, float("inf"), "dt")
    stack.scan_selective("mixed", "dt", "chosen", s.dt_rank, block.a, block.skip, "scanned")
    stack.activate("projected", "silu", "scanned", 0, "scanned", s.inner, s.inner)
    steps.product(block.o, "scanned", to, onto)


def mamba2(steps: LayerSteps, block: Mamba2Block, source: str, to: str, onto: str | None, norm: Any = None) -> None:
    s, stack, inner = block.spec, steps.stack, block.inner
    steps.products(source, {"projected": block.inp}, norm)  # the gate, then u, B and C, then the step
    if block.scales is not None:
        stack.combine("projected", "projected", scale=block.scales)
    convolve(steps, block.conv, ["projected"], "mixed", inner)
    behind = inner + block.conv.taps.shape[1]
    stack.pace("projected", behind, "softplus", block.dt_bias, None, s.dt_min, s.dt_max, "dt")
    stack.scan_space("mixed", "dt", s.head_dim, s.groups, block.rate, block.skip[:, 0], "scanned")

    def gate() -> None:
        stack.activate("projected", "silu", "scanned", 0, "scanned", 0, inner)

    if not s.norm_first:
        gate()
    if block.norm is not None and s.norm is not None:
        own = native.RowNorm(block.norm, None, s.norm.eps)
        stack.normalise("scanned", 0, inner // s.norm_groups, s.norm_groups, own)
    if s.norm_first:
        gate()
    steps.product(block.o, "scanned", to, onto)


def gated_delta(
    steps: LayerSteps, block: GatedDeltaBlock, source: str, to: str, onto: str | None, norm: Any = None
) -> None:
    s, stack = block.spec, steps.stack
    qkv = matrices(block.qkv)
    steps.products(source, {**qkv, "gate": block.z, "steps": block.a, "beta": block.b}, norm)
    convolve(steps, block.qkv.conv, list(qkv), "mixed")
    unit_keys(steps, s.k_heads, s.k_dim)
    stack.pace("steps", 0, "exp_softplus", block.dt_bias, block.rate, 0.0, 0.0, "decays")
    stack.activate("beta", "sigmoid", None, 0, "beta")
    if s.strength != 1.0:
        stack.combine("beta", "beta", factor=s.strength)
    stack.scan_delta("mixed", "decays", "beta", s.k_heads, s.k_dim, "scanned")
    stack.normalise("scanned", 0, s.v_dim, s.v_heads, norm_of(block.norm))
    stack.activate("gate", "silu", "scanned", 0, "scanned")
    steps.product(block.o, "scanned", to, onto)


def channel_delta(
    steps: LayerSteps, block: ChannelDeltaBlock, source: str, to: str, onto: str | None, norm: Any = None
) -> None:
    s, stack = block.spec, steps.stack
    qkv = matrices(block.qkv)
    first: dict[str, Linear] = {"gate": block.gate, "steps": block.decay}
    if block.decay_in is not None and block.gate_in is not None:
        first = {"narrow_gate": block.gate_in, "low": block.decay_in}
    steps.products(source, {**qkv, "beta": block.b, **first}, norm)
    if block.decay_in is not None:
        steps.product(block.gate, "narrow_gate", "gate")
        steps.product(block.decay, "low", "steps")
    convolve(steps, block.qkv.conv, list(qkv), "mixed")
    unit_keys(steps, s.heads, s.dim)
    rate = block.rate.reshape(-1)
    if s.floor is None:
        stack.pace("steps", 0, "exp_softplus", block.dt_bias, -rate, 0.0, 0.0, "decays")
    else:
        stack.pace("steps", 0, "exp_sigmoid", block.dt_bias, rate, s.floor, 0.0, "decays")
    stack.activate("beta", "sigmoid", None, 0, "beta")
    stack.scan_delta("mixed", "decays", "beta", s.heads, s.dim, "scanned")
    stack.normalise("scanned", 0, s.dim, s.heads, norm_of(block.norm))
    stack.gate("scanned", "gate", s.dim, 0, s.dim, "sigmoid")
    steps.product(block.o, "scanned", to, onto)


def short_conv(
    steps: LayerSteps, block: ShortConvBlock, source: str, to: str, onto: str | None, norm: Any = None
) -> None:
    size, stack = block.spec.channels, steps.stack
    steps.products(source, {"projected": block.inp}, norm)  # what is before the convolution, after it, and its rows
    stack.activate("projected", "identity", "projected", 2 * size, "gated", 0, size)
    convolve(steps, block.conv, ["gated"], "mixed")
    stack.activate("projected", "identity", "mixed", 0, "mixed", size, size)
    steps.product(block.o, "mixed", to, onto)


def gated_linear(
    steps: LayerSteps, block: GatedLinearBlock, source: str, to: str, onto: str | None, norm: Any = None
) -> None:
    s, stack = block.spec, steps.stack
    steps.products(source, {"projected": block.x, "gate": block.gate}, norm)
    convolve(steps, block.conv, ["projected"], "mixed")
    biases = []
    for name, (weight, bias) in zip(("into", "steps"), block.gates, strict=True):
        stack.per_head("mixed", packed_heads(weight, turned=True), 0, name)
        biases.append(bias)
    stack.scan_linear("mixed", "into", "steps", *biases, block.rate, "scanned")
    stack.activate("gate", s.act, "scanned", 0, "scanned")
    steps.product(block.o, "scanned", to, onto)


def convolve(steps: LayerSteps, conv: CausalConv, sources: list[str], to: str, at: int = 0) -> None:
    steps.stack.convolve(sources, at, conv.taps, conv.bias, conv.silu, to)


def matrices(block: QueryKeyValue) -> dict[str, Linear]:
    return dict(zip(("projected",) if len(block.linears) == 1 else ("q", "k", "v"), block.linears, strict=True))


def unit_keys(steps: LayerSteps, heads: int, dim: int) -> None:
    """Queries and keys of length one, queries by the root of their size once more.

    A norm makes the mean of the squares one, and adds its eps to that."""
    for at, size in ((0, dim**-1.0), (heads * dim, dim**-0.5)):
        steps.stack.normalise("mixed", at, dim, heads, native.RowNorm(mx.full(dim, size), None, L2_EPS / dim))
