"""Where states are kept: before a prompt's end, where others parted, and here and there in long prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.cache.snapshot_points import MOST, snapshot_points


@pytest.mark.parametrize(
    ("begun", "prompt", "known", "points"),
    [
        (0, 1000, 0, [960]),
        (0, 970, 0, [960]),
        (0, 967, 0, [896]),  # an opening of 8 tokens would reach across 960
        (0, 60, 0, []),  # no page is full
        (960, 1010, 0, []),  # it goes on from there already
        (0, 1000, 300, [300, 960]),  # others begin alike, to the token
        (300, 1000, 300, [960]),
        (0, 1000, 999, [960, 999]),
        (0, 5000, 0, [2048, 4096, 4992]),
        (0, 4300, 0, [2048, 4288]),  # 4096 is too near
        (2048, 5000, 0, [4096, 4992]),
        (0, 5000, 2100, [2100, 4096, 4992]),
    ],
)
def test_where_states_are_kept(begun: int, prompt: int, known: int, points: list[int]):
    assert snapshot_points(begun, prompt, 64, known) == points


def test_those_of_a_long_prompt_are_spread_over_all_of_it():
    assert snapshot_points(0, 100_000, 64) == [14336 * n for n in range(1, 7)] + [99968]


@given(st.integers(0, 300_000), st.integers(1, 300_000), st.sampled_from([1, 16, 64]), st.integers(0, 300_000))
def test_they_lie_where_something_runs_and_are_few(begun: int, prompt: int, size: int, known: int):
    points = snapshot_points(begun, prompt, size, known)
    assert points == sorted(set(points))
    assert all(begun < point < prompt for point in points)
    assert all(point % size == 0 or point == known for point in points)
    assert len(points) <= MOST + 2
