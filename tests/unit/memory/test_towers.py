"""What a picture costs while it is read: by hand, for every way in which pictures are brought to a size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxrun.memory.activations import FUSED_HEADS
from mlxrun.memory.need import Need
from mlxrun.memory.plan import plan
from mlxrun.memory.profiles import profile
from mlxrun.memory.towers import AT_ONCE, largest, picture_bytes
from mlxrun.ops import packed
from mlxrun.spec import Attention, Dense, Layer
from mlxrun.spec_towers import (
    Closest,
    Fit,
    Longest,
    MostRows,
    Multiple,
    Patch,
    PictureSpec,
    PictureWords,
    Square,
    Tiles,
    Tower,
    Towers,
)
from tests.unit.memory.test_plan import NEED

LAYER = Layer(Attention(4, 4, 72, 1.0, causal=False), Dense(100, gated=False))
PICTURE = PictureSpec(Square(96, 64), 3, (0.5,) * 3, (0.5,) * 3, 1 / 255, PictureWords("a", "b"), soft=0)
TOWERS = Towers(Tower("made", Patch(8, 32), None, (LAYER,), 2, ()), PICTURE)
ROW = 6 * 32 + 4 * 4 * 72 + 5 * 4 * 72 + 2 * 100


@pytest.mark.parametrize(
    ("fit", "patches"),
    [
        (Square(96, 64), 96),
        (Tiles(64, 640), 64),
        (Closest(64, 1, 12), 64),
        (Longest(100, 16), 14 * 14),
        (Multiple(16, 256, 100_000), 4 * 391),
        (MostRows(24, 280), 280 * 9),
    ],
)
def test_patches_of_the_largest(fit: Fit, patches: int) -> None:
    assert largest(replace(TOWERS, picture=replace(PICTURE, fit=fit))) == patches


def test_by_hand() -> None:
    assert picture_bytes(TOWERS, 4, gpu=False, native=True) == AT_ONCE * ROW * 4
    assert picture_bytes(TOWERS, 4, gpu=False, native=False) == AT_ONCE * ROW * 4 + 4 * 96 * 96 * 4
    large = replace(TOWERS, picture=replace(PICTURE, fit=Square(800, 1600)))
    assert picture_bytes(large, 2, gpu=True, native=False) == 20_000 * ROW * 2 * 5 // 2


def test_pictures_and_prompts_are_read_in_turns() -> None:
    machine = profile("M4 Pro 24GB")
    alone = plan(NEED, machine)
    seeing = plan(replace(NEED, towers=TOWERS), machine)
    assert seeing.activations == max(alone.activations, seeing.seeing)
    large = plan(replace(NEED, towers=replace(TOWERS, picture=replace(PICTURE, fit=Square(800, 1600)))), machine)
    assert large.activations == large.seeing > alone.activations
    assert isinstance(large.need, Need)


def test_what_is_counted_as_fused_is_what_heads_are_widened_to() -> None:
    assert FUSED_HEADS == packed.FUSED_HEADS
