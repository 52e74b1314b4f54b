"""Whatever is wrong with an argument: a Python exception that names it, and the process lives on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.cpu_kernels import native

X = mx.ones((2, 32))
I32, F32 = mx.int32, mx.float32
Call = Callable[[], object]


def plain(*shape: int) -> object:
    return native.pack_plain(mx.ones(shape))


def quantized(codes: tuple[int, ...], scales: tuple[int, ...], *how: object, biases: object = "same") -> object:
    mode, bits, group = how
    kind = F32 if mode == "affine" else mx.uint8
    made = mx.zeros(scales, kind)
    return native.pack_quantized(
        mx.zeros(codes, mx.uint32), made, made if biases == "same" else biases, mode, bits, group
    )


def heads(
    weight: object = "w", x: mx.array = X, dim: int = 4, biases: object = (), norms: object = None, turn: object = None
):
    weights = [plain(4, 32)] if weight == "w" else weight
    norms, turn = norms or native.HeadNorms(), turn or native.Rotation(None, None)
    return native.heads_of(x, weights, biases, dim, norms, turn, True, F32)


def attend(q=(1, 2, 3, 4), k=(1, 2, 5, 4), v=(1, 2, 5, 4), **how: object) -> object:
    return native.attention(mx.ones(q), mx.ones(k), mx.ones(v), 1.0, **how)


ANGLES, PLACES = mx.ones(2), mx.zeros(2, I32)

WRONG: dict[str, list[Call]] = {
    "x": [
        lambda: native.matmul(mx.ones((2, 31)), plain(4, 32)),
        lambda: native.matmul(mx.ones((2, 0)), plain(4, 32)),
        lambda: native.matmul(mx.array(1.0), plain(4, 32)),
        lambda: native.matmul(X.astype(I32), plain(4, 32)),
        lambda: native.matmul(X.astype(mx.complex64), plain(4, 32)),
        lambda: native.matmul(X.astype(mx.bool_), plain(4, 32)),
        lambda: native.feed_forward(X, plain(4, 33), plain(4, 33), plain(32, 4), "silu"),
        lambda: native.rms_norm(mx.array(1.0), None, 1e-5),
        lambda: native.rms_norm(X.astype(I32), None, 1e-5),
        lambda: heads(x=mx.ones((1, 2, 32))),
    ],
    "weight": [
        lambda: native.matmul(X, plain(2, 4, 32)),
        lambda: native.project(X, []),
        lambda: native.project(X, [None]),
        lambda: native.project(X, [plain(4, 32), None]),
        lambda: heads([None]),
        lambda: heads([]),
        lambda: heads([plain(4, 32)] * 4),
        lambda: heads([plain(5, 32)]),
        lambda: heads([plain(0, 32)]),
        lambda: heads([plain(4, 16)]),
        lambda: native.pack_plain(mx.ones((4, 0))),
        lambda: native.pack_plain(mx.ones((0, 4, 32))),
        lambda: native.pack_plain(mx.ones(4)),
        lambda: native.pack_plain(mx.ones((1, 1, 1, 1))),
        lambda: native.pack_plain(mx.ones((4, 4), I32)),
        lambda: native.rms_norm(X, mx.ones(31), 1e-5),
        lambda: native.rms_norm(X, mx.ones((1, 32)), 1e-5),
        lambda: native.rms_norm(X, mx.ones(32, I32), 1e-5),
        lambda: native.layer_norm(X, mx.ones(31), None, 1e-5),
    ],
    "bias": [
        lambda: native.layer_norm(X, None, mx.ones(31), 1e-5),
        lambda: native.matmul(X, plain(4, 32), mx.ones(5)),
        lambda: native.matmul(X, plain(4, 32), mx.ones((1, 4))),
        lambda: native.matmul(X, plain(4, 32), mx.ones(4, I32)),
        lambda: native.project(X, [plain(4, 32)], [None, None]),
        lambda: heads(biases=[mx.ones(5)]),
        lambda: heads(biases=[None, None]),
        lambda: quantized((4, 4), (4, 1), "affine", 4, 32, biases=None),
        lambda: quantized((4, 4), (4, 1), "affine", 4, 32, biases=mx.zeros((4, 2))),
        lambda: quantized((4, 4), (4, 1), "affine", 4, 32, biases=mx.zeros((4, 1), mx.float16)),
        lambda: quantized((4, 4), (4, 1), "mxfp4", 4, 32),
    ],
    "residual": [
        lambda: native.matmul(X, plain(4, 32), None, mx.ones((2, 5))),
        lambda: native.matmul(X, plain(4, 32), None, mx.ones((2, 4), mx.float16)),
        lambda: native.project(X, [plain(4, 32)] * 2, residual=mx.ones((2, 4))),
        lambda: native.feed_forward(X, None, plain(4, 32), plain(7, 4), "silu", residual=True),
    ],
    "norm": [
        lambda: native.project(X, [plain(4, 32)], [], mx.ones(31), 1e-5),
        lambda: native.feed_forward(X, None, plain(4, 32), plain(7, 4), "silu", mx.ones(4)),
        lambda: heads(norms=native.HeadNorms(mx.ones(31))),
        lambda: heads(norms=native.HeadNorms(None, 0.0, mx.ones(5))),
        lambda: heads(norms=native.HeadNorms(None, 0.0, None, mx.ones(4, I32))),
    ],
    "precision": [
        lambda: native.matmul(X, plain(4, 32), precision=2),
        lambda: native.matmul(X, plain(4, 32), precision=-2),
        lambda: native.set_precision("exactly"),
    ],
    "gate": [
        lambda: native.feed_forward(X, plain(5, 32), plain(4, 32), plain(7, 4), "silu"),
        lambda: native.feed_forward(X, None, plain(4, 32), plain(7, 4), "clamped_swiglu"),
    ],
    "up": [lambda: native.feed_forward(X, None, plain(1, 4, 32), plain(7, 4), "silu")],
    "down": [
        lambda: native.feed_forward(X, None, plain(4, 32), plain(7, 5), "silu"),
        lambda: native.feed_forward(X, None, plain(4, 32), plain(2, 7, 4), "silu"),
    ],
    "act": [lambda: native.feed_forward(X, None, plain(4, 32), plain(7, 4), "tanh")],
    "mode": [lambda: quantized((4, 4), (4, 1), "q4_0", 4, 32)],
    "bits": [
        *(partial(quantized, (4, 4), (4, 1), "affine", bits, 32) for bits in (-1, 0, 1, 7, 9, 32)),
        lambda: quantized((4, 4), (4, 1), "mxfp8", 4, 32, biases=None),
    ],
    "group": [
        *(partial(quantized, (4, 4), (4, 1), "affine", 4, group) for group in (-32, 0, 1, 8, 33, 256)),
        lambda: quantized((4, 4), (4, 1), "nvfp4", 4, 32, biases=None),
    ],
    "codes": [
        lambda: quantized((4, 4), (4, 1), "affine", 4, 64),  # 32 inputs: half a group
        lambda: quantized((4, 12), (4, 1), "affine", 4, 64),
        lambda: quantized((4, 4), (4, 1), "affine", 3, 32),
        lambda: quantized((4, 0), (4, 0), "affine", 4, 32),
        lambda: quantized((0, 4, 4), (0, 4, 1), "affine", 4, 32),
        lambda: quantized((4,), (1,), "affine", 4, 32),
        lambda: native.pack_quantized(mx.zeros((4, 4), I32), mx.zeros((4, 1)), mx.zeros((4, 1)), "affine", 4, 32),
    ],
    "scales": [
        lambda: quantized((4, 4), (4, 2), "affine", 4, 32),
        lambda: quantized((4, 4), (3, 1), "affine", 4, 32),
        lambda: quantized((4, 4), (4,), "affine", 4, 32),
        lambda: native.pack_quantized(mx.zeros((4, 4), mx.uint32), mx.zeros((4, 1)), None, "mxfp4", 4, 32),
        lambda: native.pack_quantized(
            mx.zeros((4, 4), mx.uint32), mx.zeros((4, 1), I32), mx.zeros((4, 1), I32), "affine", 4, 32
        ),
        lambda: native.pack_quantized(
            mx.zeros((4, 4), mx.uint32), mx.full((4, 1), 254, mx.uint8), None, "mxfp4", 4, 32
        ),
    ],
    "ids": [
        lambda: native.table_rows(mx.zeros(3, mx.int64), plain(4, 32), F32),
        lambda: native.table_rows(mx.zeros(3), plain(4, 32), F32),
    ],
    "table": [lambda: native.table_rows(mx.zeros(3, I32), plain(2, 4, 32), F32)],
    "dtype": [lambda: native.table_rows(mx.zeros(3, I32), plain(4, 32), I32)],
    "q": [
        lambda: attend(q=(2, 3, 4)),
        lambda: attend(q=(1, 3, 3, 4)),
        lambda: attend(q=(2, 2, 3, 4)),
        lambda: native.attention(mx.ones((1, 2, 3, 4), I32), mx.ones((1, 2, 5, 4)), mx.ones((1, 2, 5, 4)), 1.0),
    ],
    "k": [
        lambda: attend(k=(1, 2, 5, 3)),
        lambda: attend(k=(1, 0, 5, 4), v=(1, 0, 5, 4)),
        lambda: attend(k=(2, 5, 4)),
        lambda: native.attention(mx.ones((1, 2, 3, 4)), *[mx.ones((1, 2, 5, 4), I32)] * 2, 1.0),
    ],
    "v": [
        lambda: attend(v=(1, 2, 4, 4)),
        lambda: attend(v=(1, 1, 5, 4)),
        lambda: native.attention(mx.ones((1, 2, 3, 4)), mx.ones((1, 2, 5, 4)), mx.ones((1, 2, 5, 4), mx.float16), 1.0),
    ],
    "mask": [
        lambda: attend(mask=mx.ones((3, 4))),
        lambda: attend(mask=mx.ones((2, 1, 3, 5))),
        lambda: attend(mask=mx.ones((1, 1, 1, 3, 5))),
        lambda: attend(mask=mx.ones((3, 5), I32)),
        lambda: attend(mask=mx.ones((3, 5)), causal=True),
    ],
    "causal": [lambda: attend(k=(1, 2, 2, 4), v=(1, 2, 2, 4), causal=True), lambda: attend(window=3)],
    "window": [lambda: attend(window=-1, causal=True)],
    "sinks": [
        lambda: attend(sinks=mx.ones(3)),
        lambda: attend(sinks=mx.ones((1, 2))),
        lambda: attend(sinks=mx.ones(2, I32)),
    ],
    "softcap": [lambda: attend(softcap=-1.0)],
    "keys": [lambda: attend(keys=6), lambda: attend(keys=-2), lambda: attend(keys=2**31 - 1)],
    "dim": [lambda: heads(dim=0), lambda: heads(dim=-4)],
    "freqs": [
        lambda: heads(turn=native.Rotation(mx.ones(3), PLACES)),
        lambda: heads(turn=native.Rotation(mx.ones((1, 2)), PLACES)),
        lambda: heads(turn=native.Rotation(mx.ones(2, mx.float16), PLACES)),
    ],
    "positions": [
        lambda: heads(turn=native.Rotation(ANGLES, None)),
        lambda: heads(turn=native.Rotation(ANGLES, mx.zeros(3, I32))),
        lambda: heads(turn=native.Rotation(ANGLES, mx.zeros(2))),
    ],
    "kept": [
        lambda: native.heads_of(X, [plain(4, 32)], [], 4, native.HeadNorms(), native.Rotation(None, None), True, I32)
    ],
    "count": [lambda: native.set_threads(-1)],
}


@pytest.mark.parametrize("name", WRONG)
def test_the_argument_at_fault_is_named(name: str) -> None:
    for number, call in enumerate(WRONG[name]):
        with pytest.raises(ValueError, match=name) as caught:
            call()
        assert "\n" not in str(caught.value), number


@pytest.mark.parametrize("count", [2**31, -(2**31) - 1, 1.5, "2", None])
def test_numbers_that_are_none(count: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        native.set_threads(count)


@given(st.data())
@settings(max_examples=150)
def test_any_shapes_together_work_or_raise(data: st.DataObject) -> None:
    """Nothing else may happen: least of all reading past the end."""
    draw = data.draw
    size = st.sampled_from([0, 1, 2, 3, 4, 8, 32])
    shape = st.lists(size, min_size=0, max_size=4).map(tuple)
    kind = st.sampled_from([mx.float32, mx.float16, mx.bfloat16, mx.int32, mx.uint32, mx.uint8, mx.bool_])

    def any_array() -> mx.array:
        return mx.zeros(draw(shape), draw(kind))

    calls: list[Call] = [
        lambda: native.matmul(
            any_array(), native.pack_plain(any_array()), any_array() if draw(st.booleans()) else None
        ),
        lambda: native.attention(any_array(), any_array(), any_array(), 1.0, None, draw(st.booleans())),
        lambda: native.attention(*[mx.zeros((1, 2, 3, 4))] * 3, 1.0, any_array()),
        lambda: native.attention(*[mx.zeros(draw(shape))] * 3, 1.0, keys=draw(st.integers(-2, 40))),
        lambda: native.rms_norm(any_array(), any_array() if draw(st.booleans()) else None, 0.0),
        lambda: (
            native.pack_quantized(
                any_array(),
                any_array(),
                any_array(),
                "affine",
                draw(st.integers(0, 9)),
                draw(st.sampled_from([0, 32, 64])),
            ).data
        ),
        lambda: native.table_rows(any_array(), native.pack_plain(any_array()), draw(kind)),
        lambda: heads([native.pack_plain(any_array())], any_array(), draw(st.integers(-1, 9)))[0],
    ]
    with suppress(TypeError, ValueError):
        mx.eval(draw(st.sampled_from(calls))())


def test_ids_outside_the_table_are_data() -> None:
    """A node of the graph cannot raise: such rows are NaN, whatever the table is made of."""
    table = quantized((4, 4), (4, 1), "affine", 4, 32)
    ids = mx.array(np.array([-1, 4, -(2**31), 2**31 - 1], np.int32))
    assert bool(mx.isnan(native.table_rows(ids, table, F32)).all())
