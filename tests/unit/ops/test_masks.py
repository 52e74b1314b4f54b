"""Masks against the definition, one pair of positions at a time."""

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.masks import Sight, boolean, mask


def sees(sight: Sight, i: int, j: int) -> bool:
    if sight.causal and j > i:
        return False
    if sight.window is not None and (i - j >= sight.window if sight.causal else abs(i - j) > sight.window):
        return False
    return sight.chunk is None or i // sight.chunk == j // sight.chunk


@pytest.mark.parametrize(
    "sight", [Sight(), Sight(window=3), Sight(chunk=4), Sight(causal=False), Sight(causal=False, window=2)]
)
@pytest.mark.parametrize(("offset", "count", "first"), [(0, 9, 0), (5, 1, 0), (8, 1, 6), (7, 4, 3), (8, 1, 8)])
def test_boolean_is_the_definition(sight, offset, count, first):
    queries, keys = range(offset, offset + count), range(min(first, offset), offset + count)
    want = np.array([[sees(sight, i, j) for j in keys] for i in queries])
    np.testing.assert_array_equal(np.array(boolean(sight, queries, keys)), want)


@pytest.mark.parametrize("sight", [Sight(), Sight(window=3), Sight(chunk=4), Sight(causal=False)])
@pytest.mark.parametrize(("offset", "count"), [(0, 6), (5, 1), (2, 1), (6, 3)])
def test_shortcuts_mean_the_same_to_the_kernel(sight, offset, count):
    queries, keys = range(offset, offset + count), range(offset + count)
    rng = np.random.default_rng(0)
    q, k, v = (mx.array(rng.standard_normal((1, 2, n, 8)), mx.float32) for n in (count, len(keys), len(keys)))

    def run(m):
        return np.array(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=m))

    np.testing.assert_allclose(run(mask(sight, queries, keys)), run(boolean(sight, queries, keys)), atol=1e-6)


def test_a_single_query_within_its_window_needs_no_mask():
    assert mask(Sight(window=8), range(5, 6), range(6)) is None
    assert mask(Sight(window=4), range(5, 6), range(6)) is not None
