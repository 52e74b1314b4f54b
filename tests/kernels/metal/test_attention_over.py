"""Attention of a row over remembered keys that lie in one buffer: latents, and scores with a soft cap."""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.tiles import CUTS

from mlxrun.cache.keys import Keys
from mlxrun.nn.batch import Pass
from mlxrun.nn.latent import LatentAttentionBlock
from mlxrun.nn.params import Params
from mlxrun.ops.attention import capped_attention_over, latent_attention_over
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.span import Span
from mlxrun.spec import LatentAttention, Norm, Rope

from ..mslsim import Mode, settings
from .made import random, wide

DIM = 32
MLX, OURS = this_device("exact"), this_device("exact", chooser=Chooser("ours"))
SPEC = LatentAttention(
    heads=4,
    q_rank=None,
    kv_rank=24,
    nope_dim=16,
    rope_dim=8,
    v_dim=16,
    scale=0.2,
    rope=Rope(8, tuple(100.0 ** (i / 4) for i in range(4)), True, 1.0),
    norm=Norm(1e-5),
)


@pytest.mark.parametrize("policy", ["standard", "wide"])
def test_keys_are_read_once_and_where_they_lie(policy: str) -> None:
    q, rows, count = random((1, 16, 1, 96), mx.float32, 1), random((1, 1, 64, 96), mx.float32, 2), 41
    device = this_device(chooser=Chooser("auto", {"latent 256 16x1x96x72 float32": policy}))
    with settings() as launches:
        y = latent_attention_over(q, Span((rows,), 0, count), 72, device, scale=0.1, seen=None)
    keys = wide(rows)[0, 0, :count]
    scores = wide(q)[0, :, 0] @ keys.T * 0.1
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights / weights.sum(1, keepdims=True) @ keys[:, :72]
    assert np.abs(wide(y)[0, :, 0] - exact).max() < 1e-5 * np.abs(exact).max()
    tile = CUTS[policy].attention
    assert launches[0].grid[2] == tile.blocks
    slices = 16 // tile.heads  # heads that a threadgroup serves together read a key once
    assert launches[0].buffers["k"].fetched == slices * keys.shape[0] * 96 * 4


def test_scores_with_a_soft_cap() -> None:
    q = random((1, 8, 1, 64), mx.float32, 1, 3.0)
    span = Span((random((1, 2, 32, 64), mx.float32, 2, 3.0), random((1, 2, 32, 64), mx.float32, 3)), 0, 21)
    expected = capped_attention_over(q, span, MLX, scale=0.3, seen=None, softcap=5.0)
    with settings(Mode.PLAIN) as launches:
        found = capped_attention_over(q, span, OURS, scale=0.3, seen=None, softcap=5.0)
    assert [one.name for one in launches] == ["mlxrun_paged_attention"]
    assert np.abs(wide(found) - wide(expected)).max() < 1e-5 * np.abs(wide(expected)).max()


def test_a_decoded_row_of_a_latent_block() -> None:
    s = SPEC
    shapes = {
        "q.weight": (s.heads * (s.nope_dim + s.rope_dim), DIM),
        "kv_a.weight": (s.kv_rank + s.rope_dim, DIM),
        "kv_a_norm.weight": (s.kv_rank,),
        "k_b.weight": (s.heads, s.nope_dim, s.kv_rank),
        "v_b.weight": (s.heads, s.v_dim, s.kv_rank),
        "o.weight": (DIM, s.heads * s.v_dim),
    }
    weights = {name: random(shape, mx.float32, seed, 0.2) for seed, (name, shape) in enumerate(shapes.items())}
    x = random((6, DIM), mx.float32, 9)

    def decoded(device: Device) -> mx.array:
        block, memory = LatentAttentionBlock(s, DIM, Params(dict(weights), device)), Keys()
        block(x[:5], Pass([(5, 0, 64)]), [memory])
        return block(x[5:], Pass([(1, 5, 64)]), [memory])

    expected = decoded(MLX)
    with settings(Mode.PLAIN) as launches:
        found = decoded(OURS)
    assert Counter(one.name for one in launches) == {"mlxrun_paged_attention": 1}
    assert np.abs(wide(found) - wide(expected)).max() < 1e-5 * np.abs(wide(expected)).max()
