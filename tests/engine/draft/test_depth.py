"""How many drafts ride: as if every number had been tried; and who loses by them rests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.engine.draft.depth import FIRST_REST, LEAST, LONGEST_REST, MARGIN, WINDOW, Account, choose
from mlxrun.engine.draft.rates import Rates
from mlxrun.engine.draft.step_times import FIRST_MOST, KNOTS, StepTimes

chances = st.lists(st.lists(st.floats(0.01, 1.0), max_size=4), min_size=1, max_size=3)


def expected_tokens(own: list[float], count: int) -> float:
    total, all_right = 1.0, 1.0
    for chance in own[:count]:
        all_right *= chance
        total += all_right
    return total


@given(chances, st.lists(st.floats(0.0, 1.0), min_size=12, max_size=12))
def test_nothing_else_would_say_more_tokens_in_that_time(rows: list[list[float]], more: list[float]) -> None:
    extras = [0.0]
    for step in more:
        extras.append(extras[-1] + step)
    counts, told = choose(rows, extras, 1.0)
    assert all(0 <= count <= len(own) for count, own in zip(counts, rows, strict=True))

    def speed(picked: tuple[int, ...]) -> float:
        tokens = sum(expected_tokens(own, count) for own, count in zip(rows, picked, strict=True))
        return tokens / (1.0 + extras[sum(picked)])

    every = [()]
    for own in rows:
        every = [(*picked, count) for picked in every for count in range(len(own) + 1)]
    best = max(map(speed, every))
    ours = speed(tuple(counts))
    assert told == pytest.approx(ours if any(counts) else MARGIN * len(rows))
    assert ours == pytest.approx(best) or (not any(counts) and best <= MARGIN * len(rows) * (1 + 1e-9))


def test_none_ride_where_a_row_takes_as_long_as_a_pass() -> None:
    assert choose([[0.99] * 8], [k * 1.0 for k in range(9)], 1.0).counts == [0]
    assert choose([[0.9] * 8, []], [0.0, 0.1, 0.2, 5.0], 1.0).counts == [2, 0]
    assert choose([], [0.0, 1.0], 1.0).counts == []
    assert choose([[1.0]], [0.5], 1.0).counts == [0]


def test_who_loses_rests_and_longer_each_time() -> None:
    account, rests = Account(), []
    for _ in range(8):
        while not account.rests:
            account.enter(1, 0.5, 1.0)
        rests.append(account.rest)
        account.said_plainly(account.rest)
        assert not account.rests
    assert rests == [FIRST_REST, 32, 64, 128, 256, LONGEST_REST, LONGEST_REST, LONGEST_REST]


def test_who_wins_never_rests_and_begins_small_again() -> None:
    account = Account(next_rest=256)
    for _ in range(WINDOW):
        account.enter(3, 0.5, 1.0)
    assert not account.rests
    assert account.next_rest == FIRST_REST


@pytest.mark.parametrize(("speed", "rests"), [(LEAST + 0.005, False), (LEAST - 0.005, True)])
def test_a_little_loss_is_borne(speed: float, rests: bool) -> None:
    account = Account()
    for _ in range(WINDOW):
        account.enter(1, 1 / speed - 1, 1.0)
    assert account.rests is rests


def test_rates_begin_with_what_was_expected_and_follow_what_is_seen() -> None:
    rates = Rates()
    assert rates.chance("a", 3, lambda kind: kind / 10) == pytest.approx(0.3)
    for _ in range(400):
        rates.saw("a", 3, True)
    assert rates.chance("a", 3, lambda kind: 0.3) > 0.94
    assert rates.chance("a", 2, lambda kind: 0.3) == pytest.approx(0.3)
    assert rates.chance("b", 3, lambda kind: 0.3) == pytest.approx(0.3)
    for _ in range(400):
        rates.saw("a", 3, False)
    assert rates.chance("a", 3, lambda kind: 0.3) < 0.06


def test_times_before_and_after_they_are_measured() -> None:
    times = StepTimes()
    assert times.extras(1, 2.0) == pytest.approx([0.7 * k for k in range(KNOTS[FIRST_MOST] + 1)])
    assert times.extras(8, 2.0)[1] == pytest.approx(0.7 / 4)
    times.saw(1, 4, 0.8)
    assert times.extras(1, 1.0)[:5] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    times.saw(1, 2, 0.1)
    assert times.extras(1, 1.0)[:5] == pytest.approx([0.0, 0.05, 0.1, 0.45, 0.8])
    assert times.extras(1, 1.0)[6] == pytest.approx(1.2)


def test_a_pass_between_two_knots_counts_for_the_lower_one() -> None:
    times = StepTimes()
    times.saw(1, 5, 1.0)
    assert times.extras(1, 1.0)[4] == pytest.approx(0.8)


def test_no_more_is_tried_than_one_knot_beyond_what_was_measured() -> None:
    times = StepTimes()
    assert times.most(2) == KNOTS[FIRST_MOST]
    for drafts in (4, 6, 8, 64):
        times.saw(2, drafts, 0.5)
        after = KNOTS[min(KNOTS.index(drafts) + 1, len(KNOTS) - 1)]
        assert times.most(2) == after == len(times.extras(2, 1.0)) - 1


@given(st.lists(st.tuples(st.sampled_from(KNOTS), st.floats(-1.0, 9.0)), max_size=20))
def test_more_rows_never_take_less(seen: list[tuple[int, float]]) -> None:
    times = StepTimes()
    for drafts, extra in seen:
        times.saw(1, drafts, extra)
    extras = times.extras(1, 1.0)
    assert extras == sorted(extras)
    assert extras[0] == 0


def test_what_happens_once_is_forgotten() -> None:
    times = StepTimes()
    for extra in (1.0, 40.0, 1.0):
        times.saw(1, 1, extra)
    assert times.extras(1, 1.0)[1] == pytest.approx(1.0)


def test_rows_that_were_not_measured_follow_their_neighbours() -> None:
    times = StepTimes()
    times.saw(1, 4, 1.0)
    assert times.extras(8, 5.0)[4] == pytest.approx(1.0)
