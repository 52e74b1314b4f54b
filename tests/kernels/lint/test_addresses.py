"""Every kernel of ours, with the types and forms that change its text's pointers, has its address spaces in order."""

from __future__ import annotations

import re

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch

from ..metal.made import FLOATS
from ..mslsim.wrapper import Generated
from .addresses import faults, passed, why_not
from .texts import whole_texts


@pytest.fixture(autouse=True)
def _clang() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_address_spaces(dtype: mx.Dtype) -> None:
    texts = whole_texts(dtype)
    bodies = {path.stem for path in launch.FOLDER.glob("*.metal")}
    assert {next(b for b in sorted(bodies, key=len)[::-1] if f"mlxrun_{b}_" in name) for name in texts} == bodies
    for made in texts.values():
        passed(made)


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
