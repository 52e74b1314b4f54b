"""The texts that calls of our Metal kernels would hand to Apple's compiler, of all types and forms that change one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import AttentionTile

from ..metal.made import BY16, FORMATS, random, weight
from ..metal.test_paged_attention import case
from ..mslsim.wrapper import Definition, Generated, generate


def whole_texts(dtype: mx.Dtype) -> dict[str, Generated]:
    """By name."""
    with written() as texts:
        for form in (*FORMATS, *BY16):
            products(form, dtype)
            mixtures(form, dtype)
        glue(dtype)
    return texts


@contextmanager
def written() -> Iterator[dict[str, Generated]]:
    """The texts that calls would compile, by name; nothing is run, all results are zeros."""
    texts: dict[str, Generated] = {}

    def make(**definition: Any) -> Any:
        own = Definition(**definition)

        def call(inputs: Any, output_shapes: Any, output_dtypes: Any, template: Any, **_: Any) -> list[mx.array]:
            made = generate(own, inputs, output_dtypes, template)
            texts[made.name] = made
            return [mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]

        return call

    with launch.made_by(make):
        yield texts


def products(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    w, one = weight((64, 256), form, dtype), random((1, 256), dtype, 2)
    many = random((20, 256), dtype, 3)
    norm = Normed(one, mx.ones((256,), mx.float32), 1e-5)
    qmv(one, w)
    qmv(one, w, residual=mx.zeros((1, 64), dtype))
    qmv_few(many[:12], w)
    qmm(many, w)
    project(norm, [w, w, w], mx.zeros((192,), dtype))
    project(norm, [w], dtype=mx.float32)
    greedy(one, w)
    greedy(norm, w)


def mixtures(form: tuple[str, int, int], dtype: mx.Dtype) -> None:
    into, out, x = weight((8, 64, 256), form, dtype), weight((8, 256, 256), form, dtype), random((3, 256), dtype, 2)
    ids = mx.zeros((3, 2), mx.uint32)
    experts_in(x, ids, into, into, "silu")
    experts_in(Normed(x, x[0], 1e-5), ids, into, into, "clamped_swiglu", [mx.zeros((8, 64), dtype)] * 2)
    hidden, shares = random((6, 256), dtype, 3), mx.ones((3, 2), mx.float32)
    experts_out(hidden, ids, shares, out)
    qmm_experts(x, into, mx.zeros((3,), mx.uint32))
    experts_out(hidden, ids, shares, out, residual=x)
    for score in ("softmax", "softmax_topk", "sigmoid"):
        route(random((3, 16), mx.float32, 1), Rule(2, score, True, 1.0, 4, 2), mx.zeros((16,), mx.float32))
        route(random((3, 16), mx.float32, 1), Rule(2, score, False, 1.0, 1, 1))


def glue(dtype: mx.Dtype) -> None:
    x, norm = random((2, 9 * 64), dtype, 1), random((64,), dtype, 2)
    router_logits(Normed(x, x[0], 1e-5), mx.zeros((16, 9 * 64)), mx.zeros((16,)))
    positions = mx.zeros((2,), mx.int32)
    for interleaved in (False, True):
        turn = HeadTurn(mx.ones((16,), mx.float32), interleaved=interleaved)
        heads(x, (5, 2, 64), positions, turn, HeadNorm(norm, norm, 1e-5))
    heads(x, (5, 2, 64), positions, None, None)
    for bits, latent in ((16, 0), (8, 0), (4, 0), (16, 64)):
        c = case((4, 1 if latent else 2, 96), dtype, bits, latent)
        for sight in (ScoreRule(0.1), ScoreRule(0.1, 7, 3.0, mx.zeros((4,), dtype))):
            paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, AttentionTile(2, 4, 3))
