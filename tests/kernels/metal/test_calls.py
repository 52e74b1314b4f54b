"""What every launcher hands to its kernel: for one odd call each, written out by hand.

The simulator proves that kernels do right with what they are handed; here it is that they are handed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels.attention import Pages, ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, gate_up, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, best_of, greedy, heads, project
from mlxrun.metal_kernels.launch import number
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import CUTS, STANDARD, AttentionTile, ExpertTile, FewTile, MatrixTile, VectorTile

from .made import weight
from .recorded import THREADGROUP_MEMORY, Call, recorded

F16, F32, BF16, U32 = mx.float16, mx.float32, mx.bfloat16, mx.uint32
AFFINE, AFFINE8, MXFP4, NVFP4 = ("affine", 4, 64), ("affine", 8, 32), ("mxfp4", 4, 32), ("nvfp4", 4, 16)


def rows(*shape: int, dtype: mx.Dtype = F16) -> mx.array:
    return mx.ones(shape, dtype)


def weights_of(w: Any) -> list[mx.array]:
    return [w.packed, w.scales, w.scales if w.biases is None else w.biases]


def only(run: Callable[[], object]) -> Call:
    (call,) = recorded(run)
    return call


def handed(call: Call, inputs: list[Any], template: dict[str, Any]) -> None:
    """None: an input that the kernel never reads; a tuple: numbers."""
    for at, (got, wanted) in enumerate(zip(call.inputs, inputs, strict=True)):
        if isinstance(wanted, tuple):
            assert got.dtype == F32
            assert mx.array_equal(got, mx.array(wanted)), at
        elif wanted is not None:
            assert got is wanted or (got.shape == wanted.shape and mx.array_equal(got, wanted)), at
    assert call.template == template


def test_a_vector() -> None:
    x, w, tile = rows(3, 64), weight((9, 64), AFFINE, F16), VectorTile(2, 2, True)
    call = only(lambda: qmv(x, w, tile))
    own = {"T": F16, "FORMAT": 0, "BITS": 4, "GROUP": 64, "M": 3, "ROWS": 2, "SIMDGROUPS": 2, "BITCAST": True}
    handed(call, [x, *weights_of(w), None, None], own | {"RESIDUAL": False, "SCALED": False})
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("qmv", [((3, 9), F16)], (3, 1, 1), 64)
    residual = rows(3, 9)
    call = only(lambda: qmv(x, w, VectorTile(3, 3), residual, 0.25))
    own |= {"ROWS": 3, "SIMDGROUPS": 3, "BITCAST": False, "RESIDUAL": True, "SCALED": True}
    handed(call, [x, *weights_of(w), residual, (0.25,)], own)
    assert (call.groups, call.threads) == ((1, 1, 1), 96)


def test_a_few_vectors() -> None:
    x, w = rows(9, 64), weight((33, 64), MXFP4, F16)
    call = only(lambda: qmv_few(x, w, FewTile(2, 3, True)))
    own = {"T": F16, "FORMAT": 1, "BITS": 4, "GROUP": 32, "TILES_M": 2, "TILES_N": 2, "SPLIT": 3, "BITCAST": True}
    handed(call, [x, *weights_of(w)], own)
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("qmv_few", [((9, 33), F16)], (3, 1, 1), 96)
    call = only(lambda: qmv_few(x[:8], w, FewTile(4, 4)))
    assert (call.template["TILES_M"], call.groups, call.threads) == (1, (2, 1, 1), 128)


def test_many_vectors() -> None:
    x, w = rows(33, 32), weight((65, 32), NVFP4, F16)
    call = only(lambda: qmm(x, w, MatrixTile(16, 64, True)))
    own = {"T": F16, "FORMAT": 2, "BITS": 4, "GROUP": 16, "BM": 16, "BN": 64, "BITCAST": True, "SORTED": False}
    handed(call, [x, *weights_of(w), None], own)
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("qmm", [((33, 65), F16)], (2, 3, 1), 128)


def test_many_vectors_of_several_experts() -> None:
    x, w, ids = rows(32, 32), weight((3, 64, 32), AFFINE8, F16), mx.zeros(32, U32)
    call = only(lambda: qmm_experts(x, w, ids, MatrixTile(32, 16)))
    own = {"T": F16, "FORMAT": 0, "BITS": 8, "GROUP": 32, "BM": 32, "BN": 16, "BITCAST": False, "SORTED": True}
    handed(call, [x, *weights_of(w), ids], own)
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("qmm", [((32, 64), F16)], (4, 1, 1), 128)


def test_a_norm_before_matrices() -> None:
    x, norm = rows(2, 64), mx.full((64,), 3.0, F16)
    matrices = [weight((n, 64), AFFINE, F16, seed=n) for n in (9, 17)]
    added = mx.arange(26, dtype=F16)
    call = only(lambda: project(Normed(x, norm, 0.5), matrices, added, F32, VectorTile(2, 4, True)))
    own = {"T": F16, "FORMAT": 0, "BITS": 4, "GROUP": 64, "M": 2, "ROWS": 2, "SIMDGROUPS": 4, "BITCAST": True}
    first, second = (weights_of(w) for w in matrices)
    handed(
        call, [x, norm, (0.5,), *first, *second, None, None, None, added], own | {"O": F32, "PARTS": 2, "ADDED": True}
    )
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("project", [((2, 26), F32)], (5, 1, 1), 128)
    call = only(lambda: project(Normed(x, norm, 0.5), [*matrices, matrices[0]]))
    handed(
        call,
        [x, norm, (0.5,), *first, *second, *first, None],
        own | {"O": F16, "PARTS": 3, "ADDED": False, "ROWS": 4, "SIMDGROUPS": 2, "BITCAST": False},
    )
    assert (call.outputs, call.groups, call.threads) == ([((2, 35), F16)], (7, 1, 1), 64)


def test_heads() -> None:
    x, positions, freqs = rows(3, 100), mx.arange(3, dtype=mx.int32), mx.arange(1, 9, dtype=F32)
    norm = HeadNorm(mx.full((16,), 2.0), mx.full((16,), 3.0), 0.25)
    call = only(lambda: heads(x, (4, 2, 16), positions, HeadTurn(freqs, 1.5, True), norm))
    own = {"T": F16, "H": 4, "G": 2, "D": 16, "PAIRS": 8, "INTERLEAVED": True, "NORMED": True}
    handed(call, [x, norm.q, norm.k, freqs, positions, (0.25, 1.5)], own)
    assert call.outputs == [((3, 4, 16), F16), ((3, 2, 16), F16)]
    assert (call.kernel, call.groups, call.threads) == ("heads", (6, 3, 1), 32)
    call = only(lambda: heads(x, (4, 2, 16), positions, HeadTurn(freqs), norm))
    handed(call, [x, norm.q, norm.k, freqs, positions, (0.25, 1.0)], own | {"INTERLEAVED": False})
    call = only(lambda: heads(x, (4, 2, 16), positions, None, None))
    handed(
        call, [x, None, None, (0.0,), positions, (0.0, 1.0)], own | {"PAIRS": 0, "INTERLEAVED": False, "NORMED": False}
    )


def test_the_best_token() -> None:
    x, w = rows(2, 64), weight((65, 64), AFFINE, F16)
    norm = mx.full((64,), 3.0, F16)
    first, second = recorded(lambda: greedy(Normed(x, norm, 0.5), w, VectorTile(2, 2, True)))
    own = {"T": F16, "FORMAT": 0, "BITS": 4, "GROUP": 64, "M": 2, "ROWS": 2, "SIMDGROUPS": 2, "BITCAST": True}
    handed(first, [x, norm, (0.5,), *weights_of(w)], own | {"AT_ONCE": 8, "NORMED": True})
    assert first.outputs == [((2, 3), F32), ((2, 3), U32)]
    assert (first.kernel, first.groups, first.threads) == ("greedy", (3, 1, 1), 64)
    handed(second, [mx.zeros((2, 3)), mx.zeros((2, 3), U32)], {"SIMDGROUPS": 8})
    assert (second.kernel, second.outputs, second.groups, second.threads) == ("best", [((2,), U32)], (2, 1, 1), 256)
    assert recorded(lambda: greedy(x, w))[0].template["NORMED"] is False
    values, ids = mx.zeros((3, 5)), mx.ones((3, 5), U32)
    handed(only(lambda: best_of(values, ids)), [values, ids], {"SIMDGROUPS": 8})


def test_a_router() -> None:
    x, norm, router, added = rows(4, 16), rows(16), mx.ones((9, 16)), mx.ones((9,))
    call = only(lambda: router_logits(Normed(x, norm, 0.5), router, added, ExpertTile(2, 3)))
    handed(call, [x, norm, (0.5,), router, added], {"M": 4, "ADDED": True, "ROWS": 2, "SIMDGROUPS": 3})
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("router_logits", [((4, 9), F32)], (2, 1, 1), 96)
    assert only(lambda: router_logits(Normed(x, norm, 0.5), router)).template["ADDED"] is False

    logits, bias = mx.zeros((2, 8)), mx.ones((8,))
    call = only(lambda: route(logits, Rule(3, "sigmoid", True, 2.5, 4, 2), bias))
    own = {"E": 8, "K": 3, "SCORE": 2, "BIASED": True, "RENORM": True, "GROUPS": 4, "TOP_GROUPS": 2}
    handed(call, [logits, bias, (2.5,)], own)
    assert call.outputs == [((2, 3), U32), ((2, 3), F32)]
    assert (call.kernel, call.groups, call.threads) == ("router", (2, 1, 1), 32)
    call = only(lambda: route(logits, Rule(8)))
    own = {"E": 8, "K": 8, "SCORE": 0, "BIASED": False, "RENORM": False, "GROUPS": 1, "TOP_GROUPS": 1}
    handed(call, [logits, None, (1.0,)], own)
    assert only(lambda: route(logits, Rule(1, "softmax_topk"))).template["SCORE"] == 1


def test_gate_and_up_of_experts() -> None:
    x, ids, norm = rows(5, 64), mx.arange(10, dtype=U32).reshape(5, 2) % 3, rows(64)
    gate, up = (weight((3, 9, 64), AFFINE, F16, seed=s) for s in (1, 2))
    biases = [mx.full((3, 9), 2.0, F16), mx.full((3, 9), 3.0, F16)]
    tile = ExpertTile(2, 3, True)
    call = only(lambda: experts_in(Normed(x, norm, 0.5), ids, gate, up, "gelu_tanh", biases, tile))
    own = {"T": F16, "FORMAT": 0, "BITS": 4, "GROUP": 64, "M": 4, "CHOICES": 2, "ROWS": 2, "SIMDGROUPS": 3}
    own |= {"BITCAST": True}
    both = [*weights_of(gate), *weights_of(up)]
    handed(call, [x, ids.reshape(-1), *both, *biases, norm, (0.5,)], own | {"ACT": 2, "ADDED": True, "NORMED": True})
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("experts_in", [((10, 9), F16)], (2, 10, 1), 96)
    call = only(lambda: experts_in(x[:3], ids[:3], gate, up, "clamped_swiglu"))
    own |= {"M": 3, "ACT": 4, "ADDED": False, "NORMED": False, "SIMDGROUPS": 2, "BITCAST": False}
    handed(call, [x[:3], ids[:3].reshape(-1), *both, None, None, None, None], own)
    for number_of, name in enumerate(("silu", "gelu", "gelu_tanh", "relu")):
        assert only(lambda name=name: experts_in(x, ids, gate, up, name)).template["ACT"] == number_of


def test_a_dense_layer_is_one_expert() -> None:
    x, (gate, up) = rows(3, 64), (weight((9, 64), AFFINE, F16, seed=s) for s in (1, 2))
    added = [mx.full((9,), 2.0, F16), mx.full((9,), 3.0, F16)]
    call = only(lambda: gate_up(x, gate, up, "silu", added, ExpertTile(4, 2)))
    own = {"T": F16, "FORMAT": 0, "BITS": 4, "GROUP": 64, "M": 3, "CHOICES": 1, "ROWS": 4, "SIMDGROUPS": 2}
    parts = [part[None] for w in (gate, up) for part in weights_of(w)]
    inputs = [x, mx.zeros(3, U32), *parts, *(a[None] for a in added), None, None]
    handed(call, inputs, own | {"BITCAST": False, "ACT": 0, "ADDED": True, "NORMED": False})
    assert (call.outputs, call.groups) == ([((3, 9), F16)], (2, 3, 1))


def test_down_of_experts() -> None:
    hidden, ids, down = rows(6, 32), mx.arange(6, dtype=U32).reshape(3, 2), weight((7, 17, 32), NVFP4, F16)
    shares, added, residual = mx.full((3, 2), 0.5), mx.full((7, 17), 2.0, F16), mx.full((3, 17), 3.0, F16)
    call = only(lambda: experts_out(hidden, ids, shares, down, added, residual, ExpertTile(4, 2, True)))
    own = {"T": F16, "FORMAT": 2, "BITS": 4, "GROUP": 16, "M": 3, "CHOICES": 2, "ROWS": 4, "SIMDGROUPS": 2}
    own |= {"BITCAST": True, "PAIRS": 6, "ADDED": True, "RESIDUAL": True}
    handed(call, [hidden, ids.reshape(-1), shares.reshape(-1), *weights_of(down), added, residual], own)
    assert (call.kernel, call.outputs, call.groups, call.threads) == ("experts_out", [((3, 17), F16)], (3, 1, 1), 64)
    call = only(lambda: experts_out(hidden, ids, shares, down))
    own |= {"ROWS": 2, "SIMDGROUPS": 2, "BITCAST": False, "ADDED": False, "RESIDUAL": False}
    handed(call, [hidden, ids.reshape(-1), shares.reshape(-1), *weights_of(down), None, None], own)


def attended(count: int, size: int, dtype: mx.Dtype, tile: AttentionTile, v: int | None = None) -> list[Call]:
    pages = Pages(mx.ones((3, 2, 4, size), dtype))
    tables, lengths = mx.zeros((2, 3), U32), mx.array([5, 9], mx.int32)
    values = Pages(mx.zeros((3, 2, 4, size), dtype)) if v is None else v
    return recorded(
        lambda: paged_attention(mx.ones((2, count, size), dtype), pages, values, tables, lengths, ScoreRule(0.5), tile)
    )


def test_attention_over_pages() -> None:
    q, k, v = rows(2, 6, 64), Pages(rows(3, 2, 4, 64)), Pages(mx.zeros((3, 2, 4, 32), F16))
    tables, lengths, sinks = mx.zeros((2, 3), U32), mx.array([5, 9], mx.int32), mx.ones((6,))
    sight = ScoreRule(0.5, 7, 30.0, sinks)
    call = only(lambda: paged_attention(q, k, v, tables, lengths, sight, AttentionTile(2, 4)))
    own = {"T": F16, "O": F16, "H": 6, "G": 2, "D": 64, "DV": 32, "BITS": 16, "GROUP": 64, "HEADS": 2, "SIMDGROUPS": 4}
    own |= {"BLOCKS": 1, "WINDOW": 7, "SOFTCAP": True, "SINKS": True, "SHARED": False}
    handed(call, [q, k.rows, None, None, v.rows, None, None, tables, lengths, sinks, (0.5, 30.0)], own)
    assert call.outputs == [((2, 6, 1, 32), F16), ((2, 6, 1, 2), F32)]
    assert (call.kernel, call.groups, call.threads) == ("paged_attention", (4, 2, 1), 128)
    (call,) = attended(6, 64, F16, AttentionTile(8, 4))
    own |= {"DV": 64, "HEADS": 3, "WINDOW": 0, "SOFTCAP": False, "SINKS": False}
    assert call.template == own  # no more heads than a group has
    assert call.groups == (2, 2, 1)


def test_attention_over_codes() -> None:
    def coded(value: float) -> Pages:
        scales = [mx.full((3, 1, 4, 2), value + i, F16) for i in range(2)]
        return Pages(mx.full((3, 1, 4, 16), int(value), U32), *scales, bits=8, group=32)

    q, k, v = rows(1, 2, 64), coded(1.0), coded(5.0)
    tables, lengths = mx.zeros((1, 3), U32), mx.array([5], mx.int32)
    call = only(lambda: paged_attention(q, k, v, tables, lengths, ScoreRule(0.5)))
    inputs = [q, k.rows, k.scales, k.biases, v.rows, v.scales, v.biases, tables, lengths, None, (0.5, 0.0)]
    tile = STANDARD.attention
    own = {"T": F16, "O": F16, "H": 2, "G": 1, "D": 64, "DV": 64, "BITS": 8, "GROUP": 32, "HEADS": 2, "BLOCKS": 1}
    own |= {"SIMDGROUPS": tile.simdgroups, "WINDOW": 0, "SOFTCAP": False, "SINKS": False, "SHARED": False}
    handed(call, inputs, own)


@pytest.mark.parametrize("dtype", [F16, BF16, F32], ids=str)
def test_parts_of_several_blocks_are_float32_whatever_the_rows_are(dtype: mx.Dtype) -> None:
    """Or each part is rounded before the parts are joined."""
    first, join = attended(6, 64, dtype, AttentionTile(2, 4, 5), v=48)
    assert first.outputs == [((2, 6, 5, 48), F32), ((2, 6, 5, 2), F32)]
    assert (first.template["O"], first.template["SHARED"], first.template["BLOCKS"]) == (F32, True, 5)
    assert first.groups == (4, 2, 5)
    handed(join, [mx.zeros((2, 6, 5, 48)), mx.zeros((2, 6, 5, 2))], {"T": dtype, "H": 6, "DV": 48, "BLOCKS": 5})
    assert (join.kernel, join.outputs, join.groups, join.threads) == (
        *("join_blocks", [((2, 6, 48), dtype)]),
        *((6, 2, 1), 32),
    )
    assert attended(6, 64, dtype, AttentionTile(2, 4))[0].template["O"] == dtype


@pytest.mark.parametrize("width", [64, 512, 1016, 1022, 1023, 1024])
@pytest.mark.parametrize("simdgroups", [1, 7, 8])
def test_attention_takes_as_many_simdgroups_as_threadgroup_memory_has_room_for(width: int, simdgroups: int) -> None:
    """Each keeps the sum of a row's values, its largest score and their weight: width + 2 floats."""
    (call,) = attended(4, width, F16, AttentionTile(4, simdgroups))
    taken = call.template["SIMDGROUPS"]
    assert call.threads == 32 * taken
    assert taken * (width + 2) * 4 <= THREADGROUP_MEMORY
    assert taken == simdgroups or (taken + 1) * (width + 2) * 4 > THREADGROUP_MEMORY


def test_what_values_leave_of_threadgroup_memory_keys_do_not_take() -> None:
    (call,) = attended(4, 1024, F16, AttentionTile(4, 8), v=8)
    assert call.template["SIMDGROUPS"] == 8


@pytest.mark.parametrize(("size", "heads"), [(256, 4), (257, 2), (576, 2), (640, 2), (641, 1), (1024, 1)])
def test_of_wide_heads_few_go_at_once(size: int, heads: int) -> None:
    """A lane holds a 32nd of their queries and sums in registers: by the wider of a key and its value."""
    for v in (None, 8):
        (call,) = attended(16, size, F16, AttentionTile(8, 4), v)
        assert call.template["HEADS"] == heads
        assert call.groups == (2 * 8 // heads, 2, 1)


def test_every_cut_fits_the_widest_head() -> None:
    for cut in CUTS.values():
        for call in attended(4, 1024, BF16, cut.attention)[:1]:
            assert call.template["SIMDGROUPS"] * (1024 + 2) * 4 <= THREADGROUP_MEMORY


def test_numbers_of_a_call_are_made_once() -> None:
    assert number(0.5, 2.0) is number(0.5, 2.0)
    assert number(0.5, 2.0).tolist() == [0.5, 2.0]
