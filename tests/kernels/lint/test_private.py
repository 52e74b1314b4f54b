"""Private arrays of the largest cuts, the widest heads and the most experts fit into registers."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlxrun.metal_kernels.attention import Pages, ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route, router_logits
from mlxrun.metal_kernels.glue import greedy, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmv, qmv_few
from mlxrun.metal_kernels.tiles import CUTS, AttentionTile

from ..metal.made import weight
from .addresses import faults, why_not
from .texts import written


@pytest.fixture(autouse=True)
def _clang() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("form", [("affine", 4, 64), ("affine", 6, 16)], ids=str)
def test_four_rows_of_every_cut(form: tuple[str, int, int], cut: str) -> None:
    tile, w, stack = CUTS[cut], weight((64, 64), form, mx.float16), weight((4, 64, 64), form, mx.float16)
    x, ids = mx.ones((4, 64), mx.float16), mx.zeros((4, 1), mx.uint32)
    rows = Normed(x, x[0], 1e-5)
    with written() as texts:
        qmv(x, w, tile.vector)
        project(rows, [w] * 3, tile=tile.vector)
        greedy(rows, w, tile.vector)
        qmv_few(mx.ones((16, 64), mx.float16), w, tile.few)
        qmm(mx.ones((64, 64), mx.float16), w, tile.matrix)
        experts_in(rows, ids, stack, stack, "silu", tile=tile.experts)
        experts_out(x, ids, mx.ones((4, 1)), stack, tile=tile.experts)
        router_logits(rows, x, tile=tile.experts)
    assert {name: told for name, made in texts.items() if (told := faults(made))} == {}


def test_most_experts_and_widest_heads() -> None:
    with written() as texts:
        route(mx.zeros((1, 1024)), Rule(32, groups=32, top_groups=4))
        tables, lengths = mx.zeros((1, 1), mx.uint32), mx.array([8], mx.int32)
        for size, values in ((256, None), (320, None), (576, 512), (640, None), (1024, None), (1024, 1024)):
            k = Pages(mx.ones((1, 1, 8, size), mx.float16))
            q = mx.ones((1, 16, size), mx.float16)
            paged_attention(q, k, values or k, tables, lengths, ScoreRule(0.1), AttentionTile(8, 8))
    assert len(texts) == 7
    assert {name: told for name, made in texts.items() if (told := faults(made))} == {}
