"""How large a pass may be, learned from what passes took; on a simulated clock, so that nothing here waits."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import pytest

from mlxrun.core import Priority, Sampling
from mlxrun.engine.budget import ALONE, CHUNK, ENOUGH, GAP, LEAST, UNKNOWN, Load, PassBudget, PassTimer, about
from mlxrun.engine.plan import LEFT_OUT

from .fake import continuation
from .simulated import MS, Simulated, like_a_laptop, like_two_cores

GREEDY = Sampling(temperature=0)


def prompt_of(length: int, salt: int = 0) -> list[int]:
    return [(7 * i + 13 * salt + 3) % 97 for i in range(length)]


def gaps(simulated: Simulated, handle: object, since: float = 0.0) -> list[float]:
    return [late - early for early, late in pairwise(simulated.times(handle)) if early >= since]


@pytest.mark.parametrize("cost", [like_a_laptop, like_two_cores])
def test_who_speaks_hardly_notices_a_long_prompt(cost: Callable[[Load], float]) -> None:
    simulated = Simulated(cost)
    speaker = simulated.submit([1, 2, 3], max_tokens=600, sampling=GREEDY)
    simulated.until(lambda: len(simulated.tokens(speaker)) > 20)
    normal = median(gaps(simulated, speaker))
    asked = simulated.now
    late = simulated.submit(prompt_of(3900), max_tokens=5, sampling=GREEDY)
    simulated.until(lambda: bool(simulated.times(late)))
    while_it_read = sorted(gaps(simulated, speaker, asked))
    assert while_it_read[round(0.99 * len(while_it_read)) - 1] <= 3 * normal
    assert while_it_read[-1] <= 6 * normal
    first = simulated.times(late)[0] - asked
    simulated.finish()
    assert simulated.tokens(late) == continuation(prompt_of(3900), 5)
    assert simulated.tokens(speaker) == continuation([1, 2, 3], 600)

    alone = Simulated(cost)
    only = alone.submit(prompt_of(3900), max_tokens=5, sampling=GREEDY)
    alone.finish()
    assert first <= 2.5 * alone.times(only)[0]


def test_the_last_word_does_not_wait_for_somebody_s_prompt() -> None:
    simulated = Simulated()
    speaker = simulated.submit([1, 2, 3], max_tokens=40, sampling=GREEDY)
    simulated.until(lambda: len(simulated.tokens(speaker)) > 10)
    normal = median(gaps(simulated, speaker))
    simulated.submit(prompt_of(3900), max_tokens=5, sampling=GREEDY)
    simulated.finish()
    assert simulated.tokens(speaker) == continuation([1, 2, 3], 40)
    assert max(gaps(simulated, speaker)) <= 6 * normal


def test_alone_a_prompt_goes_in_passes_of_a_bounded_time() -> None:
    simulated = Simulated()
    simulated.submit(prompt_of(3900), max_tokens=1, sampling=GREEDY)
    simulated.finish()
    loads = [plan.load for plan in simulated.plans if plan.load is not None]
    assert loads[0] == Load(0, ENOUGH, ENOUGH // 2)
    took = [like_a_laptop(load) for load in loads[1:-1]]
    assert max(took) <= 1.3 * ALONE  # where a depth is new, it is taken for the one before
    assert median(took) > 0.7 * ALONE


@pytest.mark.parametrize("speaking", [1, 7, 32, 40])
def test_a_pass_fills_its_gap_whatever_the_noise(speaking: int) -> None:
    """One pass in five takes three times as long: the machine has other things to do."""
    dice, budget = random.Random(speaking), PassBudget()

    def took(load: Load) -> float:
        return like_a_laptop(load) * (3.0 if dice.random() < 0.2 else dice.uniform(0.95, 1.05))

    for _ in range(20):
        budget.learn(Load(speaking), took(Load(speaking)))
    filled = []
    for _ in range(60):
        load = Load(speaking, budget.prompt_tokens(speaking, 700), 700)
        filled.append(like_a_laptop(load) / like_a_laptop(Load(speaking)))
        budget.learn(load, took(load))
    assert 0.75 * GAP <= median(filled[20:]) <= 1.15 * GAP


def test_what_is_not_known_is_small() -> None:
    budget = PassBudget()
    assert budget.prompt_tokens(0, 0) == ENOUGH
    assert budget.prompt_tokens(3, 0) == UNKNOWN
    budget.learn(Load(0, ENOUGH, 32), 10.0)
    assert budget.prompt_tokens(0, 0) == ENOUGH
    budget.learn(Load(3), 0.001)
    budget.learn(Load(2), 0.001)
    for _ in range(2):
        budget.learn(Load(2, UNKNOWN, 0), 10.0)
    assert budget.prompt_tokens(2, 0) == LEAST  # a prompt gets on, whatever it costs
    assert budget.prompt_tokens(3, 0) == 1  # if only in the place that a tile of kernels has left
    budget.learn(Load(0, ENOUGH, 32), 1e-9)
    budget.learn(Load(0, ENOUGH, 32), 1e-9)
    assert budget.prompt_tokens(0, 0) == CHUNK


def test_prompts_stand_back_where_the_plain_pass_is_not_known() -> None:
    budget = PassBudget()
    assert [budget.wants_plain(5) for _ in range(6)] == [True, True, False, True, True, False]
    assert not budget.wants_plain(0)
    budget.learn(Load(5), 0.01)
    assert not budget.wants_plain(5)
    assert budget.wants_plain(6)
    for _ in range(64):
        budget.learn(Load(5, 10, 0), 0.02)
    assert budget.wants_plain(5)  # contexts have grown meanwhile


def test_numbers_of_rows_that_are_alike() -> None:
    assert [about(rows) for rows in (1, 7, 8, 9, 10, 11, 12, 15, 16, 19, 20, 300)] == [
        *(1, 7, 8, 8, 10, 10, 12, 14, 16, 16, 20, 256),
    ]


def test_a_pass_is_timed_from_when_the_one_before_was_done() -> None:
    learned: list[tuple[Load, float]] = []
    timer = PassTimer(lambda load, seconds: learned.append((load, round(seconds, 6))))
    one, two, prompt = Load(1), Load(2), Load(0, 64, 32)
    timer.passed(one, 0.0, 0.1, read=False, waited=False)
    timer.passed(one, 0.1, 0.3, read=True, waited=False)  # the first was done at 0.3
    timer.passed(two, 0.3, 0.5, read=True, waited=False)
    timer.passed(None, 0.5, 0.9, read=True, waited=False)
    assert learned == [(one, 0.3), (one, 0.2), (two, 0.4)]
    learned.clear()
    timer.passed(prompt, 5.0, 6.0, read=False, waited=True)  # after a silence
    timer.passed(prompt, 6.0, 6.5, read=False, waited=True)
    assert learned == [(prompt, 1.0), (prompt, 0.5)]
    learned.clear()
    timer.passed(one, 7.0, 7.1, read=False, waited=False)
    timer.passed(prompt, 7.1, 8.0, read=True, waited=True)  # whose time was whose nobody knows
    assert learned == []
    timer.passed(one, 8.0, 8.1, read=False, waited=False)
    timer.passed(prompt, 8.1, 8.2, read=True, waited=False)  # the last word of who spoke, and nothing to read after it
    timer.passed(prompt, 8.2, 9.0, read=False, waited=True)  # both prompts' passes
    assert learned == [(one, 0.2)]
    learned.clear()
    timer.passed(one, 8.0, 8.1, read=False, waited=False)
    timer.forget()
    timer.passed(one, 9.0, 9.1, read=False, waited=False)
    assert learned == []


def test_who_came_together_waits_for_one_another() -> None:
    """None of eight began before the others asked, so their prompts are read as quickly as if nobody spoke."""
    simulated = Simulated()
    handles = [simulated.submit(prompt_of(256, i), max_tokens=40, sampling=GREEDY) for i in range(8)]
    simulated.until(lambda: all(simulated.tokens(handle) for handle in handles))
    assert len(simulated.plans) < 40
    later = simulated.submit(prompt_of(256, 9), max_tokens=4, sampling=GREEDY)
    simulated.finish()
    beside = [plan.load for plan in simulated.plans if plan.load and plan.load.prompt and plan.load.speaking]
    assert [load.hurried for load in beside] == sorted((load.hurried for load in beside), reverse=True)
    assert not beside[-1].hurried
    assert beside[-1].prompt < ENOUGH
    assert simulated.tokens(later) == continuation(prompt_of(256, 9), 4)


def test_batch_rows_leave_the_gap_to_who_looks_on_and_all_get_on() -> None:
    simulated = Simulated()
    batch = [simulated.submit([i, 1], max_tokens=200, sampling=GREEDY, priority=Priority.BATCH) for i in range(24)]
    simulated.until(lambda: all(simulated.tokens(handle) for handle in batch))
    looks_on = simulated.submit([5, 6], max_tokens=60, sampling=GREEDY)
    simulated.until(lambda: len(simulated.tokens(looks_on)) > 12)
    settled = simulated.now
    simulated.until(lambda: len(simulated.tokens(looks_on)) >= 60)
    alone = like_a_laptop(Load(1))
    assert median(gaps(simulated, looks_on, settled)) <= (GAP + 0.5) * alone
    for plan in simulated.plans[-40:]:
        assert all(row.still <= LEFT_OUT for row in plan.members)
    simulated.finish()
    for i, handle in enumerate(batch):
        assert simulated.tokens(handle) == continuation([i, 1], 200)


def test_a_batch_row_becomes_urgent_with_time() -> None:
    simulated = Simulated()
    simulated.submit([1, 2], max_tokens=4000, sampling=GREEDY)
    batch = simulated.submit(prompt_of(600), max_tokens=4, sampling=GREEDY, priority=Priority.BATCH)
    simulated.step()
    (late,) = [row for row in simulated.plans[0].members if row.handle is batch]
    assert not late.urgent(simulated.now)
    assert late.urgent(simulated.now + 30.0)


def test_the_budget_is_measured_in_ms_not_noise() -> None:
    budget = PassBudget()
    budget.learn(Load(2), 8 * MS)
    budget.learn(Load(2), 0.0)  # a clock that stands still tells nothing
    assert budget.plain(2) == 8 * MS
    assert budget.told == {"pass_2": 8 * MS}


def test_how_many_tokens_a_second_are_read_is_told_once_it_is_known() -> None:
    budget = PassBudget()
    assert budget.rate == 0
    budget.learn(Load(0, 64, 32), 0.128)
    assert budget.rate == pytest.approx(500)
