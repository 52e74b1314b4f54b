"""The primitives as nodes of MLX's graph: compiled, evaluated later, on other streams and from other threads."""

from __future__ import annotations

import threading

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import array, weight

random = np.random.default_rng(1)


def draw(*shape: int) -> mx.array:
    return array(random.normal(size=shape), mx.float32)[0]


class Layer:
    """All primitives in one graph, mixed with MLX's own."""

    def __init__(self) -> None:
        of = lambda *shape: weight(random, shape, ("affine", 4, 32)).packed  # noqa: E731 short
        self.table, self.heads = of(50, 64), [of(64, 64), of(32, 64), of(32, 64)]
        self.out, self.gate, self.up, self.down = of(64, 64), of(96, 64), of(96, 64), of(64, 96)
        self.norm, self.freqs = draw(64), mx.arange(1, 9).astype(mx.float32)

    def __call__(self, ids: mx.array) -> mx.array:
        rows = ids.shape[0]
        x = native.table_rows(ids, self.table, mx.float32)
        turn = native.Rotation(self.freqs, mx.arange(rows, dtype=mx.int32), False)
        q, k, v = native.heads_of(x, self.heads, [], 16, native.HeadNorms(self.norm, 1e-5), turn, True, mx.float32)
        y = native.attention(q, k, v * 2, 0.25, causal=True)
        y = y.swapaxes(1, 2).reshape(rows, 64)
        x = native.matmul(mx.tanh(y), self.out, None, x)
        x = native.feed_forward(x, self.gate, self.up, self.down, "silu", self.norm, 1e-5, True)
        return native.rms_norm(x, self.norm, 1e-5) + 1


@pytest.fixture(scope="module")
def layer() -> Layer:
    return Layer()


def ids(rows: int) -> mx.array:
    return mx.array(np.arange(rows, dtype=np.int32) * 7 % 50)


def test_compiled(layer: Layer) -> None:
    compiled = mx.compile(layer)
    for rows in (5, 40, 5):
        assert mx.array_equal(compiled(ids(rows)), layer(ids(rows)))


def test_compiled_code_is_not_mixed_up() -> None:
    """Nodes that differ only in what C++ keeps for them are different nodes."""
    w = weight(random, (16, 64), ("affine", 4, 32)).packed
    x = draw(3, 64) * mx.array([1.0, 100.0, 0.01])[:, None]

    def several(x: mx.array) -> list[mx.array]:
        return [native.rms_norm(x, None, 1e-5), native.rms_norm(x, None, 10.0), native.matmul(x, w, precision=0),
                native.matmul(x, w, precision=1), native.feed_forward(x, None, w, native_down, "relu"),
                native.feed_forward(x, None, w, native_down, "relu2")]  # fmt: skip

    native_down = native.pack_plain(draw(5, 16))
    for a, b in zip(mx.compile(several)(x), several(x), strict=True):
        assert mx.array_equal(a, b)


def test_evaluated_later(layer: Layer) -> None:
    """Many graphs under way at once, with inputs and weights that nothing else holds any more."""
    wanted = [np.array(layer(ids(n % 9 + 1))) for n in range(30)]
    found = []
    for n in range(30):
        y = layer(ids(n % 9 + 1))
        mx.async_eval(y)
        found.append(y)
    for y, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.array(y), w)
    y = native.matmul(mx.ones((3, 64)), native.pack_plain(mx.full((200, 64), 2.0)))
    mx.async_eval(y)
    assert bool((y == 128).all())


def test_inputs_are_as_they_were_when_the_node_was_made() -> None:
    x, w = mx.ones((4, 64)), native.pack_plain(mx.ones((16, 64)))
    y, z = native.matmul(x, w), native.rms_norm(x, None, 0.0)
    x[1] = 5.0
    after = native.matmul(x, w)
    assert bool((y == 64).all())
    assert bool((z == 1).all())
    assert np.array(after)[:, 0].tolist() == [64, 320, 64, 64]


def test_on_other_streams_and_threads(layer: Layer) -> None:
    wanted = [np.array(layer(ids(n))) for n in (3, 17)]
    wrong: list[str] = []

    def work(number: int, count: int) -> None:
        with mx.stream(mx.new_stream(mx.cpu)):
            for i in range(count):
                n = (number + i) % 2
                if not np.array_equal(np.array(layer(ids((3, 17)[n]))), wanted[n]):
                    wrong.append(f"thread {number}, round {i}")

    threads = [threading.Thread(target=work, args=(n, 40)) for n in range(3)]
    for thread in threads:
        thread.start()
    work(3, 40)
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_cross_streams() -> None:
    """Made on one stream, used on another: MLX waits for it."""
    w = weight(random, (64, 64), ("affine", 4, 32)).packed
    streams = [mx.new_stream(mx.cpu) for _ in range(3)]
    x = draw(50, 64)
    here, there = x, x
    for i in range(12):
        here = native.rms_norm(native.matmul(here, w), None, 1e-5)
        with mx.stream(streams[i % 3]):
            there = native.rms_norm(native.matmul(there, w), None, 1e-5)
    assert mx.array_equal(here, there)


def test_a_transform_that_is_not_there_says_so() -> None:
    w = native.pack_plain(mx.ones((4, 8)))
    with pytest.raises((ValueError, RuntimeError)):
        mx.eval(mx.grad(lambda x: native.matmul(x, w).sum())(mx.ones((2, 8))))
    with pytest.raises((ValueError, RuntimeError)):
        mx.eval(mx.vmap(lambda x: native.matmul(x, w))(mx.ones((2, 3, 8))))
