"""Every kernel of ours, with the types and forms that change its text's pointers, has its address spaces in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import AttentionTile

from ..metal.made import BY16, FLOATS, FORMATS, random, weight
from ..metal.test_paged_attention import case
from ..mslsim.wrapper import Definition, Generated, generate
from .addresses import faults, why_not


@pytest.fixture(autouse=True)
def _clang() -> None:
    if reason := why_not():
        pytest.skip(reason)


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


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_address_spaces(dtype: mx.Dtype) -> None:
    with written() as texts:
        for form in (*FORMATS, *BY16):
            products(form, dtype)
            mixtures(form, dtype)
        glue(dtype)
    bodies = {path.stem for path in launch.FOLDER.glob("*.metal")}
    assert {next(b for b in sorted(bodies, key=len)[::-1] if f"mlxrun_{b}_" in name) for name in texts} == bodies
    assert {name: told for name, made in texts.items() if (told := faults(made))} == {}


GOOD = """
inline void twice(thread float* at, int i) { at[i] *= 2.0f; }
inline void large(thread float* at) { float kept[140]; at[0] = kept[3]; }
template <typename T> inline float first(const device T* from, thread float* to) { return to[0] = float(from[0]); }
[[kernel]] void custom_kernel_f(const device float* x [[buffer(0)]], const constant int& n [[buffer(1)]],
                                device float* y [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float kept[32];
  float own[2];
#pragma unroll
  for (int i = 0; i < 2; i++) own[i] += 1;
  kept[lane] = first<float>(x, own) + n;
  const threadgroup float* at = kept + lane;
  if (lane == 0) { y[0] = *at; }
}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("first<float>(x, own)", "first<float>(kept, own)", "no matching function"),
        ("first<float>(x, own)", "first<float>(x, kept)", "no matching function"),
        ("const threadgroup float* at", "const device float* at", "cannot initialize"),
        ("thread float* to", "float* to", r"no address space: float\* to"),
        ("thread float* to", "thread float* to, int* n = 0", r"no address space: int\* n = 0"),
        ("const threadgroup float* at = kept + lane;", "auto* at = own; at = own;", "no address space: auto\\* at"),
        ("y[0] = *at", "y[0] = *(float*)own", r"no address space: \(float\*\)own"),
        (
            "threadgroup float kept[32];",
            "threadgroup float kept[32]; if (n) { threadgroup float m[2]; }",
            "memory m is",
        ),
        ("[[kernel]]", "struct S { int f() { return 1; } };\n[[kernel]]", "the method f"),
        (
            "[[kernel]]",
            "inline int g(int a) { return a; }\ninline int g(uint a) { return a; }\n[[kernel]]",
            "second .* g",
        ),
        ("lane == 0", "lane == nothing", "undeclared identifier"),
        ("#pragma unroll\n  for (int i", "for (int i", r"no #pragma unroll for own: for \(int i = 0; i < 2; i\+\+\)"),
        ("i < 2; i++", "i < n; i++", "own is indexed in a loop of unknown length"),
        ("own[i] += 1", "own[lane] += 1", "own is indexed by lane"),
        ("own[i] += 1", "first<float>(x + i, own)", None),
        (
            "#pragma unroll\n  for (int i",
            "for (int i = 0; i < 2; i++) twice(own, i);\n#pragma unroll\n  for (int i",
            "for own",
        ),
        (
            "float own[2];",
            "float own[2], more[9][15];",
            r"137 values in private arrays, the limit is 136: own 2, more 135",
        ),
        ("float own[2];", "float own[2], more[9][14];", None),
        ("float own[2];", "float own[2]; simdgroup_matrix<float, 8, 8> more[68];", "138 values in private arrays"),
        ("float own[2];", "float own[2]; large(own);", "142 values .*: own 2, kept 140"),
    ],
)
def test_what_the_lint_sees(old: str, new: str, message: str | None) -> None:
    assert old in GOOD
    told = faults(Generated("custom_kernel_f", GOOD.replace(old, new) if old else GOOD, "", (), ()))
    assert [bool(re.search(message, one)) for one in told] == [True] if message else told == []
