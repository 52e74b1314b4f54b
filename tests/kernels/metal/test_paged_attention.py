"""Attention over pages: against float64 for every kind of head, page and sight, and by its bytes."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.attention import Pages, ScoreRule, paged_attention
from mlxrun.metal_kernels.tiles import AttentionTile

from ..mslsim import Mode, operations, settings
from .made import FLOATS, ROUNDING, random, wide

PAGE = 8
LENGTHS = (1, 21, 40)  # a page's part, some pages, all of them


@dataclass(frozen=True)
class Case:
    q: mx.array
    k: Pages
    v: Pages | int
    tables: mx.array
    lengths: mx.array
    keys: np.ndarray  # (pages, G, page, D), exactly what the pages hold
    values: np.ndarray


def pages(shape: tuple[int, ...], dtype: mx.Dtype, bits: int, seed: int) -> tuple[Pages, np.ndarray]:
    full = random(shape, dtype, seed)
    if bits == 16:
        return Pages(full), wide(full)
    made = mx.quantize(full, group_size=32, bits=bits)
    exact = mx.dequantize(made[0], *(p.astype(mx.float32) for p in made[1:]), group_size=32, bits=bits)
    return Pages(*made, bits=bits, group=32), np.array(exact, np.float64)


def case(
    counts: tuple[int, int, int], dtype: mx.Dtype, bits: int = 16, latent: int = 0, lengths: tuple[int, ...] = LENGTHS
) -> Case:
    count, groups, size = counts
    most = -(-max(lengths) // PAGE)
    held = len(lengths) * most
    k, keys = pages((held, groups, PAGE, size), dtype, bits, 2)
    v, values = (latent, keys[..., :latent]) if latent else pages((held, groups, PAGE, size), dtype, bits, 3)
    # pages in no order; a row's unused places hold a page that is not there
    order = np.random.default_rng(4).permutation(held)[: len(lengths) * most].reshape(len(lengths), most)
    for row, length in enumerate(lengths):
        order[row, -(-length // PAGE) :] = 4_000_000
    q = random((len(lengths), count, size), dtype, 1, 2.0)
    return Case(q, k, v, mx.array(order, mx.uint32), mx.array(lengths, mx.int32), keys, values)


def exact(c: Case, sight: ScoreRule) -> np.ndarray:
    rows, count, _ = c.q.shape
    y = np.zeros((rows, count, c.values.shape[3]))
    for t in range(rows):
        length = c.lengths[t].item()
        seen = range(max(0, length - sight.window) if sight.window else 0, length)
        places = [(c.tables[t, j // PAGE].item(), j % PAGE) for j in seen]
        for h in range(count):
            g = h * c.keys.shape[1] // count
            scores = np.array([c.keys[p, g, i] @ wide(c.q[t, h]) for p, i in places]) * sight.scale
            if sight.softcap:
                scores = sight.softcap * np.tanh(scores / sight.softcap)
            sinks = [] if sight.sinks is None else [wide(sight.sinks)[h]]
            weights = np.exp(scores - max(*scores, *sinks, scores[0]))
            total = weights.sum() + sum(np.exp(s - max(*scores, *sinks, scores[0])) for s in sinks)
            y[t, h] = weights @ np.array([c.values[p, g, i] for p, i in places]) / total
    return y


def near(got: mx.array, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    error = np.abs(wide(got) - expected).max()
    assert error <= (2 * ROUNDING[got.dtype] + 2e-6) * np.abs(expected).max(), error


HEADS = ((4, 4, 64), (8, 2, 128), (6, 1, 80), (5, 1, 96), (4, 2, 256))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("counts", HEADS, ids=str)
def test_against_float64(counts: tuple[int, int, int], dtype: mx.Dtype) -> None:
    c, sight = case(counts, dtype), ScoreRule(counts[2] ** -0.5)
    expected = exact(c, sight)
    for order in (0, 2):
        with settings(order=order) as launches:
            near(paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight), expected)
        assert len(launches) == 1


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("counts", [(8, 2, 128), (4, 2, 64)], ids=str)
def test_quantized_keys_and_values(counts: tuple[int, int, int], bits: int, dtype: mx.Dtype) -> None:
    c, sight = case(counts, dtype, bits), ScoreRule(counts[2] ** -0.5, window=19)
    with settings(order=2):
        near(paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight), exact(c, sight))


@pytest.mark.parametrize(
    "sight",
    [
        ScoreRule(0.125, window=7),
        ScoreRule(0.125, softcap=3.0),
        ScoreRule(0.125, sinks=mx.array([3.0, -1.0, 0.5, 9.0])),
        ScoreRule(0.125, window=13, softcap=2.0, sinks=mx.array([3.0, -1.0, 0.5, 9.0])),
    ],
    ids=["window", "softcap", "sinks", "all"],
)
@pytest.mark.parametrize("blocks", [1, 5])
def test_what_scores_go_through(sight: ScoreRule, blocks: int) -> None:
    """Also by more blocks than a short row has keys."""
    c = case((4, 2, 64), mx.float32)
    with settings(order=2) as launches:
        y = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, AttentionTile(2, 4, blocks))
    near(y, exact(c, sight))
    assert len(launches) == (1 if blocks == 1 else 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("blocks", [1, 3])
def test_latent_attention(dtype: mx.Dtype, blocks: int) -> None:
    """As DeepSeek has it: 512 values of a row of 576 are the value too."""
    c, sight = case((5, 1, 576), dtype, latent=512, lengths=(1, 19)), ScoreRule(192**-0.5)
    with settings(order=2) as launches:
        y = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, AttentionTile(2, 8, blocks))
    near(y, exact(c, sight))
    assert launches[0].buffers["v"].asked == 0  # values come with the keys


def test_quantized_latent_attention() -> None:
    c, sight = case((3, 1, 576), mx.bfloat16, 8, latent=512, lengths=(19,)), ScoreRule(192**-0.5)
    near(paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight), exact(c, sight))


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_keys_and_values_in_sight_are_read_once_for_a_group(bits: int) -> None:
    c, sight = case((8, 2, 128), mx.bfloat16, bits, lengths=(40,)), ScoreRule(0.1, window=16)
    with settings() as launches:
        paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, AttentionTile(4, 4))
    share = 16 / (c.k.rows.shape[0] * PAGE)  # of the pages' rows
    for name, held in (("k", c.k), ("v", c.v)):
        assert launches[0].buffers[name].fetched == pytest.approx(share * held.rows.nbytes)
        if bits == 16:
            assert launches[0].buffers[name].asked == launches[0].buffers[name].fetched


def test_the_blocks_change_nothing_but_rounding_and_rows_are_apart() -> None:
    c, sight = case((8, 2, 64), mx.float16), ScoreRule(0.125)
    whole = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight)
    for t in range(3):
        alone = paged_attention(c.q[t : t + 1], c.k, c.v, c.tables[t : t + 1], c.lengths[t : t + 1], sight)
        assert mx.array_equal(alone, whole[t : t + 1])


def test_bad_arguments_are_named() -> None:
    c, sight = case((4, 2, 64), mx.float16), ScoreRule(0.125)
    coded = case((4, 2, 64), mx.float16, 8)
    for call, message in (
        (lambda: paged_attention(c.q.astype(mx.int32), c.k, c.v, c.tables, c.lengths, sight), "q is mlx.core.int32"),
        (lambda: paged_attention(c.q.astype(mx.float32), c.k, c.v, c.tables, c.lengths, sight), "k is .*float16, q is"),
        (lambda: paged_attention(c.q[..., :32], c.k, c.v, c.tables, c.lengths, sight), "heads of 64 values, q of 32"),
        (lambda: paged_attention(c.q[:, :3], c.k, c.v, c.tables, c.lengths, sight), "3 query heads cannot share 2"),
        (lambda: paged_attention(c.q, c.k, coded.v, c.tables, c.lengths, sight), "quantized alike"),
        (lambda: paged_attention(c.q, c.k, 65, c.tables, c.lengths, sight), "values are 65 of a key's 64"),
        (lambda: paged_attention(c.q, c.k, c.v, c.tables[:1], c.lengths, sight), "tables have shape"),
        (lambda: paged_attention(c.q, c.k, c.v, c.tables, c.lengths[:1], sight), "lengths have shape"),
        (
            lambda: paged_attention(c.q, c.k, c.v, c.tables, c.lengths, ScoreRule(1, sinks=mx.zeros((3,)))),
            r"sinks have shape \(3,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_key_is_found_without_a_division() -> None:
    """More keys, in as many pages as they need, take no more of them: a GPU has no fast one."""
    if reason := operations.why_not():
        pytest.skip(reason)
    divisions = []
    for length in (9, 40):
        c = case((2, 1, 64), mx.float32, lengths=(length,))
        with settings(Mode.COUNTED) as launches:
            paged_attention(c.q, c.k, c.v, c.tables, c.lengths, ScoreRule(0.1), AttentionTile(2, 2))
        divisions.append(launches[0].operations["divide"])
    assert divisions[0] == divisions[1]
