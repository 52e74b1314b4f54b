"""The plan's arithmetic by hand, and that its advice is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.open import recipe_of
from mlxrun.memory.activations import prefill_bytes
from mlxrun.memory.machine import Machine
from mlxrun.memory.need import Need
from mlxrun.memory.plan import BITS, RUNTIME, advise, plan, weights_at
from mlxrun.memory.profiles import machines, profile
from mlxrun.memory.weights import Weights, weigh
from mlxrun.ops.device import a_mac
from mlxrun.spec import Attention, Decoder, Dense, Layer, MoE, Router
from mlxrun.weights import open_checkpoint
from tests.unit.memory.outlines import QWEN3_4B, QWEN3_30B_A3B, write

GIB = 2**30
ATTENTION = Attention(heads=32, kv_heads=8, head_dim=128, scale=1.0)
LAYER = Layer(mixer=ATTENTION, ffn=Dense(hidden=9728))
DECODER = Decoder(family="made", dim=2560, vocab=1000, layers=(LAYER,) * 36, norm=None, tied=True, context=40960)
WEIGHTS = Weights({"feed-forward": 2 * GIB}, read=2 * GIB, matrices=4 * 10**9, others=10**6, largest=10**8)
NEED = Need(DECODER, WEIGHTS, width=2, context=8192)


def box(gigabytes: float) -> Machine:
    return Machine("a box", int(gigabytes * 1.5 * GIB), int(gigabytes * GIB), gpu=True, max_buffer=GIB)


def test_by_hand() -> None:
    made = plan(NEED, profile("M4 Pro 24GB"))
    a_token = 36 * 2 * 8 * 128 * 2
    assert made.cache == 8192 * a_token
    row = 6 * 2560 + 4 * 4096 + 5 * 1024 + 3 * 9728
    assert made.activations == 512 * row * 2 * 5 // 2 + 2 * 1000 * 4
    assert made.total == 2 * GIB + made.cache + made.activations + RUNTIME
    assert made.free == 16 * GIB - made.total
    assert made.fits
    assert plan(replace(NEED, parallel=3), box(16)).cache == 3 * made.cache


def test_steps_of_the_cache_count() -> None:
    assert plan(replace(NEED, context=8193), box(16)).cache == plan(replace(NEED, context=8448), box(16)).cache


def test_activations_on_a_cpu_have_scores() -> None:
    row = 6 * 2560 + 4 * 4096 + 5 * 1024 + 3 * 9728
    assert prefill_bytes(DECODER, 512, 8192, 4, gpu=False) == 512 * row * 4 + 32 * 512 * 8192 * 4 + 2 * 1000 * 4


@settings(max_examples=60, deadline=None)
@given(st.floats(2.0, 12.0), st.integers(2, 40960), st.integers(1, 5))
def test_advice_is_true(room: float, context: int, parallel: int) -> None:
    need, machine = replace(NEED, context=context, parallel=parallel), box(room)
    made, told = plan(need, machine), advise(need, machine)
    if told.context:
        assert plan(replace(need, context=told.context), machine).fits
    if told.context < DECODER.context:
        assert not plan(replace(need, context=told.context + 1), machine).fits
    if told.parallel:
        assert plan(replace(need, parallel=told.parallel), machine).fits
    assert not plan(replace(need, parallel=told.parallel + 1), machine).fits
    assert made.fits == (told.context >= context) == (told.parallel >= parallel)
    if told.chunk is not None:
        assert plan(replace(need, chunk=told.chunk), machine).fits
    if made.fits:
        assert (told.bits, told.kv_bits, told.machine, told.wired_limit) == (None, None, None, None)
        return
    assert told.machine is None or plan(need, told.machine).fits
    if told.bits is not None and told.bits_weights is not None and told.bits_context is not None:
        smaller = replace(need.weights, kinds={"all": told.bits_weights})
        assert told.bits_weights < made.weights
        assert plan(replace(need, weights=smaller, context=told.bits_context), machine).fits
        more = [bits for bits in BITS if bits > told.bits]
        for bits in more:
            larger = replace(need.weights, kinds={"all": weights_at(WEIGHTS, bits)})
            assert larger.total >= made.weights or not plan(replace(need, weights=larger), machine).fits
    if told.kv_bits is not None:
        assert made.total - made.cache * (1 - (told.kv_bits + 0.5) / 16) <= machine.usable + 1
    if told.wired_limit is not None:
        assert made.total <= told.wired_limit * 2**20 <= machine.total - 7 * GIB


def test_the_smallest_machine() -> None:
    told = advise(replace(NEED, context=40960), profile("M1 8GB"))
    assert told.machine is not None
    assert told.machine.total == min(m.total for m in machines() if plan(replace(NEED, context=40960), m).fits)


def test_an_array_may_be_too_large_by_itself() -> None:
    need = replace(NEED, weights=replace(WEIGHTS, largest=2 * GIB))
    made = plan(need, box(16))
    assert made.free > 0
    assert not made.fits
    assert advise(need, box(16)).context == 0


def test_quantized_sizes_are_what_a_quantizer_writes(tmp_path: Path) -> None:
    for index, config in enumerate((QWEN3_4B, QWEN3_30B_A3B)):
        sizes = {}
        for bits in (3, 4, 8):
            checkpoint = open_checkpoint(write(tmp_path / f"{index}-{bits}", config, bits))
            sizes[bits] = dry_run(checkpoint, recipe_of(checkpoint), a_mac()).weights
        for bits in (3, 4, 8):
            assert weights_at(sizes[4], bits) == pytest.approx(sizes[bits].total, rel=0.001)


class Made:
    def __init__(self, *shape: int) -> None:
        self.shape, self.nbytes = shape, 0
        size = 2
        for extent in shape:
            size *= extent
        self.nbytes = size


def test_what_a_token_reads() -> None:
    moe = MoE(experts=8, hidden=16, router=Router(top_k=2))
    layer = Layer(mixer=ATTENTION, ffn=moe)
    spec = Decoder(family="made", dim=4, vocab=10, layers=(layer,), norm=None, tied=False, context=100)
    weights = {
        "embed.weight": Made(10, 4),
        "head.weight": Made(10, 4),
        "norm.weight": Made(4),
        "layers.0.mixer.q.weight": Made(6, 4),
        "layers.0.ffn.router.weight": Made(8, 4),
        "layers.0.ffn.experts.up.weight": Made(8, 16, 4),
    }
    found = weigh(spec, weights)
    assert found.kinds == {
        "experts": 1024,
        "embedding": 80,
        "head": 80,
        "feed-forward": 64,
        "attention": 48,
        "norms": 8,
    }
    assert found.read == 1024 // 4 + 80 + 64 + 48 + 8  # no row of the table to speak of
    assert (found.matrices, found.others) == (512 + 40 + 40 + 32 + 24, 4)
    assert found.largest == 1024
    assert weigh(replace(spec, tied=True), weights).read == found.read + 80
