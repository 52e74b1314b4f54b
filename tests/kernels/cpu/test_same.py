"""The same numbers, bit for bit, with any number of threads, from run to run, and for a row alone or among others.

Not so for attention: how its sums are cut depends on how many queries there are, and their last bit with it.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import KINDS, array, name_of, weight


def bits(arrays: list[mx.array]) -> list[bytes]:
    """Zeros and NaN by their bits too."""
    return [np.array(mx.view(a, mx.uint16 if a.itemsize == 2 else mx.uint32)).tobytes() for a in arrays]


def draw(seed: int, *shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return array(np.random.default_rng(seed).normal(size=shape), dtype)[0]


def products(kind: tuple[str, int, int]) -> Callable[[], list[mx.array]]:
    random = np.random.default_rng(1)
    w = [weight(random, (size, 128), kind).packed for size in (200, 33)]
    few, many = draw(2, 3, 128), draw(3, 150, 128, dtype=mx.bfloat16)
    return lambda: [y for x in (few, many) for p in (0, 1) for y in native.project(x, w, precision=p)]


def front() -> Callable[[], list[mx.array]]:
    random = np.random.default_rng(4)
    w = [weight(random, (size, 64), ("affine", 4, 32)).packed for size in (64, 32, 32)]
    x, norms = draw(5, 70, 64), native.HeadNorms(draw(6, 64), 1e-5, draw(7, 16), draw(8, 16), 1e-6)
    turn = native.Rotation(mx.arange(1, 9).astype(mx.float32), mx.arange(70, dtype=mx.int32), False)
    return lambda: native.heads_of(x, w, [], 16, norms, turn, True, mx.bfloat16)


def network() -> Callable[[], list[mx.array]]:
    random = np.random.default_rng(9)
    gate, up, down = (weight(random, shape, ("affine", 4, 32)).packed for shape in ((320, 64), (320, 64), (64, 320)))
    x, norm = draw(10, 600, 64), draw(11, 64)
    return lambda: [native.feed_forward(x, gate, up, down, "silu", norm, 1e-5, True, p) for p in (0, 1)]


def attention() -> Callable[[], list[mx.array]]:
    q, long = draw(12, 1, 8, 40, 32), draw(13, 1, 2, 3000, 32)
    one = draw(14, 1, 8, 1, 32)
    return lambda: [
        native.attention(q, long, long, 0.2, causal=True),
        native.attention(one, long, long, 0.2),
        native.attention(one, long, long, 0.2, causal=True, window=500),
    ]


def rows() -> Callable[[], list[mx.array]]:
    table = weight(np.random.default_rng(15), (300, 64), ("affine", 6, 64)).packed
    ids, x = mx.arange(300, dtype=mx.int32), draw(16, 500, 70)
    return lambda: [native.table_rows(ids, table, mx.float16), native.rms_norm(x, None, 1e-5)]


CASES = {"front": front, "network": network, "attention": attention, "rows": rows} | {
    name_of(kind): lambda kind=kind: products(kind) for kind in KINDS if kind[2] in (0, 16, 32)
}


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads_gives_the_same_bits(isa: str, case: str) -> None:
    run = CASES[case]()
    native.set_threads(1)
    wanted = bits(run())
    for threads in (2, 3, 7) if isa != "base" else (3,):
        native.set_threads(threads)
        for again in range(3 if threads == 2 else 1):
            assert bits(run()) == wanted, (threads, again)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_packing_does_not_depend_on_threads(kind: tuple[str, int, int]) -> None:
    found = []
    for threads in (1, 5):
        native.set_threads(threads)
        found.append(np.array(weight(np.random.default_rng(17), (100, 128), kind).packed.data).tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", [0, 1])
@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_row_is_the_same_alone_and_among_others(isa: str, kind: tuple[str, int, int], precision: int) -> None:
    """So that a conversation does not change with what else is being answered. Up to 40 rows: tiles and what is
    left of them; blocks that are unpacked together and the last few; two panels and one alone."""
    most = 40 if precision and native.integer() else 13
    w = weight(np.random.default_rng(18), (40, 384), kind).packed
    x = draw(19, most, 384)
    alone = [native.matmul(x[i : i + 1], w, precision=precision) for i in range(most)]
    for count in range(2, most + 1):
        together = native.matmul(x[:count], w, precision=precision)
        assert bits([together]) == bits([mx.concatenate(alone[:count])]), count
