"""Who waits, who goes first, who has to stop and what becomes of him; on a simulated clock and with memory as small as
a test wants it. Every answer is what the fake model says of its prompt, whatever happened on the way."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlxrun.core import Finish, Priority, Refusal, Request, RequestError, Sampling
from mlxrun.engine.handle import Handle
from mlxrun.engine.prefix_cache import PrefixCache, shared_prefix
from mlxrun.engine.request import check

from .fake import FakeMemory, FakeModel, continuation
from .simulated import Simulated, SmallRoom

GREEDY = Sampling(temperature=0)
BATCH = Priority.BATCH


def prompt_of(length: int, salt: int = 0) -> list[int]:
    return [(7 * i + 13 * salt + 3) % 97 for i in range(length)]


def totals(simulated: Simulated) -> dict[str, float]:
    return dict(simulated.scheduler.counters.snapshot().totals)


def test_three_hundred_at_once_are_all_answered() -> None:
    simulated = Simulated()
    handles = [simulated.submit([i % 97, 1], max_tokens=30, sampling=GREEDY) for i in range(300)]
    simulated.finish()
    for i, handle in enumerate(handles):
        assert simulated.tokens(handle) == continuation([i % 97, 1], 30)
        assert simulated.last(handle).finish is Finish.LENGTH
    assert max(plan.load.speaking for plan in simulated.plans if plan.load) == 300


def test_how_much_of_a_prompt_is_read_can_be_seen() -> None:
    simulated = Simulated()
    long = simulated.submit(prompt_of(3000), max_tokens=4, sampling=GREEDY)
    seen = [long.read]
    while not simulated.said[long]:
        simulated.step()
        seen.append(long.read)
    assert seen[0] == 0
    assert seen[-1] == 3000
    assert seen == sorted(seen)
    assert len(set(seen)) > 3  # it was read in parts
    simulated.finish()
    assert long.read == 3000  # what it says is no prompt
    again = simulated.submit(prompt_of(3000), max_tokens=4, sampling=GREEDY)
    simulated.step()
    assert again.read == 3000  # all but its end was in memory


def test_as_many_run_as_there_is_memory_for() -> None:
    simulated = Simulated(room=SmallRoom(1000))
    handles = [simulated.submit(prompt_of(90, i), max_tokens=8, sampling=GREEDY) for i in range(40)]
    simulated.finish()
    for i, handle in enumerate(handles):
        assert simulated.tokens(handle) == continuation(prompt_of(90, i), 8)
    assert 5 <= max(len(plan.members) for plan in simulated.plans) <= 10
    assert "preemptions" not in totals(simulated)


def test_what_will_never_fit_is_refused_at_once() -> None:
    simulated = Simulated(room=SmallRoom(1000))
    runs = simulated.submit(prompt_of(100), max_tokens=100, sampling=GREEDY)
    simulated.step()
    large = simulated.submit(prompt_of(2000), sampling=GREEDY)
    small = simulated.submit(prompt_of(50), max_tokens=3, sampling=GREEDY)
    simulated.step()
    last = simulated.last(large)
    assert (last.finish, last.refusal) == (Finish.REFUSED, Refusal.CONTEXT)
    assert "never" in str(last.reason)
    simulated.finish()
    assert simulated.tokens(small) == continuation(prompt_of(50), 3)
    assert simulated.tokens(runs) == continuation(prompt_of(100), 100)


def test_a_full_queue_says_when_to_come_back() -> None:
    simulated = Simulated(room=SmallRoom(100), queue=20)
    early = [simulated.submit(prompt_of(60, i), max_tokens=5, sampling=GREEDY) for i in range(20)]
    refused = simulated.submit([1], sampling=GREEDY)
    simulated.step()
    last = simulated.last(refused)
    assert (last.finish, last.refusal, last.retry_after) == (Finish.REFUSED, Refusal.QUEUE, None)
    assert "20 requests are waiting" in str(last.reason)
    simulated.until(lambda: sum(bool(simulated.said[h]) and simulated.last(h).finish is not None for h in early) >= 5)
    each = simulated.now / 5
    while len(simulated.scheduler._waiting) < 20:
        simulated.submit(prompt_of(60, 50), max_tokens=5, sampling=GREEDY)
    late = simulated.submit([1], sampling=GREEDY)
    simulated.step()
    wait = simulated.last(late).retry_after
    assert wait is not None
    assert max(1.0, 2.5 * each) <= wait <= max(1.0, 3.5 * each)  # until three have ended: one, and a tenth of the queue


def test_who_looks_on_is_admitted_before_batch_rows() -> None:
    simulated = Simulated(room=SmallRoom(150))
    first = simulated.submit(prompt_of(60), max_tokens=20, sampling=GREEDY)
    simulated.step()
    batch = [simulated.submit(prompt_of(60, i), max_tokens=20, sampling=GREEDY, priority=BATCH) for i in (1, 2)]
    looks_on = simulated.submit(prompt_of(60, 3), max_tokens=20, sampling=GREEDY)
    simulated.finish()
    began = [simulated.times(handle)[0] for handle in (first, looks_on, *batch)]
    assert began == sorted(began)


def test_a_batch_row_gives_way_and_its_reader_sees_a_pause() -> None:
    simulated = Simulated(room=SmallRoom(500))
    batch = simulated.submit(prompt_of(300), max_tokens=60, sampling=GREEDY, priority=BATCH)
    simulated.until(lambda: len(simulated.tokens(batch)) > 20)
    looks_on = simulated.submit(prompt_of(200, 1), max_tokens=30, sampling=GREEDY)
    simulated.until(lambda: bool(simulated.times(looks_on)))
    said = len(simulated.tokens(batch))
    assert said < 60
    simulated.until(lambda: simulated.last(looks_on).finish is not None)
    simulated.finish()
    assert simulated.times(batch)[said] > simulated.times(looks_on)[-1]
    assert simulated.tokens(looks_on) == continuation(prompt_of(200, 1), 30)
    assert simulated.tokens(batch) == continuation(prompt_of(300), 60)
    assert simulated.last(batch).usage.output_tokens == 60
    assert totals(simulated)["preemptions"] == 1


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(1.0, seed=5), Sampling(1.0, seed=5, mirostat_tau=3.0)])
def test_where_memory_runs_out_the_youngest_goes_on_later(sampling: Sampling, forgets: bool) -> None:
    """Whether what it had read was kept meanwhile or must be computed again."""

    class Flat(FakeModel):
        def logits(self, hidden: mx.array) -> mx.array:
            return super().logits(hidden) / 20

    def answers(room: SmallRoom) -> tuple[list[list[int]], float]:
        simulated = Simulated(room=room, model=Flat())
        if forgets:
            simulated.scheduler._prefixes.keep = lambda tokens, memory, scope: None
        handles = [simulated.submit(prompt_of(40, i), max_tokens=90, sampling=sampling) for i in range(6)]
        simulated.finish()
        assert {simulated.last(handle).finish for handle in handles} == {Finish.LENGTH}
        return [simulated.tokens(handle) for handle in handles], totals(simulated).get("preemptions", 0)

    enough, undisturbed = answers(SmallRoom(10000))
    short, stopped = answers(SmallRoom(480))
    assert (undisturbed, stopped > 0) == (0, True)
    assert short == enough


def test_the_last_one_ends_where_even_he_has_no_room() -> None:
    simulated = Simulated(room=SmallRoom(100))
    handle = simulated.submit(prompt_of(60), max_tokens=200, sampling=GREEDY)
    simulated.finish()
    assert simulated.last(handle).finish is Finish.FAILED
    assert "Memory is used up" in str(simulated.last(handle).reason)
    said = simulated.tokens(handle)
    assert said == continuation(prompt_of(60), len(said))


def test_a_deadline_ends_who_waits_and_who_runs() -> None:
    simulated = Simulated(room=SmallRoom(600))
    runs = simulated.submit(prompt_of(400), max_tokens=150, sampling=GREEDY, deadline=0.9)
    simulated.step()
    waits = simulated.submit(prompt_of(400, 1), sampling=GREEDY, deadline=0.5)
    patient = simulated.submit(prompt_of(400, 2), max_tokens=5, sampling=GREEDY, deadline=30.0)
    simulated.finish()
    for handle, said in (
        (runs, "not finished when its deadline of 0.9 s"),
        (waits, "waiting when its deadline of 0.5"),
    ):
        assert simulated.last(handle).finish is Finish.EXPIRED
        assert said in str(simulated.last(handle).reason)
    assert 0 < len(simulated.tokens(runs)) < 150
    assert simulated.tokens(runs) == continuation(prompt_of(400), len(simulated.tokens(runs)))
    assert simulated.tokens(waits) == []
    assert simulated.tokens(patient) == continuation(prompt_of(400, 2), 5)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"deadline": 0.0}, "deadline must be a number of seconds above 0, not 0.0"),
        ({"deadline": -3.0}, "deadline must be"),
        ({"deadline": math.nan}, "deadline must be"),
        ({"deadline": math.inf}, "deadline must be"),
        ({"n": 0}, "n must be a whole number from 1 to 128, not 0"),
        ({"n": 1000}, "n must be"),
        ({"n": 3, "best_of": 2}, "best_of must be a whole number from n (3) to 128, not 2"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict, said: str) -> None:
    with pytest.raises(RequestError) as told:
        check(Request((1, 2), **how), 97, 4096)
    assert said in str(told.value)


@pytest.mark.parametrize("seed", [7, 2**64 - 1])
def test_several_answers_read_their_prompt_once(seed: int) -> None:
    simulated = Simulated(model=Drawn())
    prompt, sampling = prompt_of(300), Sampling(1.0, seed=seed)
    handles = simulated.submit_choices(prompt, max_tokens=10, sampling=sampling, n=5)
    simulated.finish()
    rows = sum(plan.load.prompt for plan in simulated.plans if plan.load)
    assert rows == 299 + 5
    assert totals(simulated)["forks"] == 4
    alone = Simulated(model=Drawn())
    for choice, handle in enumerate(handles):
        one = alone.submit(prompt, max_tokens=10, sampling=Sampling(1.0, seed=(seed + choice) % 2**64))
        alone.finish()
        assert simulated.tokens(handle) == alone.tokens(one)
        assert {event.choice for _, event in simulated.said[handle]} == {choice}
        usage = simulated.last(handle).usage
        assert (usage.prompt_tokens, usage.cached_tokens) == (300, 299 if choice else 0)


class Drawn(FakeModel):
    def logits(self, hidden: mx.array) -> mx.array:
        return super().logits(hidden) / 10


class Single(FakeMemory):
    """What cannot be had twice."""

    def fork(self) -> None:
        return None


class SingleModel(FakeModel):
    def new_sequence(self, context: int | None = None) -> FakeMemory:
        return Single(context or self.context)


@pytest.mark.parametrize("length", [1, 2, 200])
@pytest.mark.parametrize("model", [FakeModel, SingleModel])
def test_answers_that_cannot_be_forked_are_right_as_well(model: type[FakeModel], length: int) -> None:
    simulated = Simulated(model=model())
    handles = simulated.submit_choices(prompt_of(length), max_tokens=5, sampling=GREEDY, n=3)
    simulated.finish()
    for handle in handles:
        assert simulated.tokens(handle) == continuation(prompt_of(length), 5)


def test_one_of_several_answers_is_cancelled_and_the_others_go_on() -> None:
    for at in (0, 1, 2):
        for passes in (0, 1, 12):
            simulated = Simulated()
            handles = simulated.submit_choices(prompt_of(200), max_tokens=5, sampling=GREEDY, n=3)
            for _ in range(passes):
                simulated.step()
            handles[at].cancel()
            simulated.finish()
            for choice, handle in enumerate(handles):
                if choice != at:
                    assert simulated.tokens(handle) == continuation(prompt_of(200), 5)
                else:
                    assert simulated.last(handle).finish in (Finish.CANCELLED, Finish.LENGTH)


def test_the_likeliest_of_several_are_told() -> None:
    """By the mean log-probability of their tokens, which nobody asked to be told."""
    prompt, seeds, count = prompt_of(20), range(40, 46), 8
    alone = Simulated(model=Drawn())
    every = []
    for seed in seeds:
        handle = alone.submit(prompt, max_tokens=count, sampling=Sampling(1.0, seed=seed, logprobs=0))
        alone.finish()
        logprobs = [one.logprob for _, event in alone.said[handle] for one in event.logprobs]
        every.append((sum(logprobs) / len(logprobs), alone.tokens(handle)))
    assert len({worth for worth, _ in every}) > 2
    best = [tokens for _, tokens in sorted(every, key=lambda pair: -pair[0])][:2]

    simulated = Simulated(model=Drawn())
    handles = simulated.submit_choices(prompt, max_tokens=count, sampling=Sampling(1.0, seed=40), n=2, best_of=6)
    simulated.finish()
    assert [simulated.tokens(handle) for handle in handles] == best
    for choice, handle in enumerate(handles):
        ((_, event),) = simulated.said[handle]  # nothing was told before all had ended
        assert (event.choice, event.finish, event.logprobs) == (choice, Finish.LENGTH, ())


class Sharing(PrefixCache):
    """What a running request has read is there for others at once, as where memory is in pages."""

    shares = True

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model, model.context, 1 << 30)
        self.shared: list[tuple[str, list[int], FakeMemory]] = []

    def share(self, tokens, memory, scope="", *, state=False) -> None:
        copy = memory.fork()
        self.shared.append((scope, list(tokens[: copy.length]), copy))

    def memory_for(self, tokens, scope=""):
        best, found = 0, None
        for of, read, memory in self.shared:
            if of != scope:
                continue
            common = next((i for i, (a, b) in enumerate(zip(read, tokens[:-1], strict=False)) if a != b), None)
            common = min(len(read), len(tokens) - 1) if common is None else common
            if common > best:
                best, found = common, memory
        if found is None:
            return self._model.new_sequence(self._context), 0
        memory = found.fork()
        memory.rewind(best)
        return memory, best


def test_what_two_prompts_share_is_computed_once() -> None:
    simulated = Simulated()
    sharing = Sharing(simulated.model)
    simulated.scheduler._prefixes = simulated.scheduler._admission._prefixes = sharing
    document = prompt_of(1000)
    prompts = [[*document, i, i + 1] for i in range(16)]
    other = prompt_of(500, 5)
    handles = [simulated.submit(prompt, max_tokens=4, sampling=GREEDY) for prompt in (*prompts, other)]
    simulated.finish()
    for prompt, handle in zip((*prompts, other), handles, strict=True):
        assert simulated.tokens(handle) == continuation(prompt, 4)
    rows = sum(plan.load.prompt for plan in simulated.plans if plan.load)
    assert rows <= 1002 + 15 * 3 + 500  # and not 16 times the document
    assert simulated.times(handles[-1])[0] < simulated.times(handles[1])[0]  # nobody waits for what others wait for


def test_two_scopes_neither_wait_for_each_other_nor_share() -> None:
    simulated = Simulated()
    sharing = Sharing(simulated.model)
    simulated.scheduler._prefixes = simulated.scheduler._admission._prefixes = sharing
    prompt = [(7 * i + 3) % 97 for i in range(600)]
    handles = [simulated.submit(prompt, max_tokens=4, sampling=GREEDY, scope=scope) for scope in ("a", "b", "b")]
    simulated.finish()
    assert [simulated.last(handle).usage.cached_tokens for handle in handles] == [0, 0, 599]
    assert all(simulated.tokens(handle) == continuation(prompt, 4) for handle in handles)


def test_who_waits_for_a_shared_prompt_goes_on_where_its_reader_is_gone() -> None:
    simulated = Simulated()
    sharing = Sharing(simulated.model)
    simulated.scheduler._prefixes = simulated.scheduler._admission._prefixes = sharing
    one, two = ([*prompt_of(1000), i] for i in (1, 2))
    first, second = (simulated.submit(prompt, max_tokens=4, sampling=GREEDY) for prompt in (one, two))
    simulated.step()
    simulated.step()
    first.cancel()
    simulated.finish()
    assert simulated.last(first).finish is Finish.CANCELLED
    assert simulated.tokens(second) == continuation(two, 4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_what_two_prompts_have_in_common(one: list[int], other: list[int]) -> None:
    from array import array

    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    assert shared_prefix(array("i", one), array("i", other)) == shared_prefix(one, other) == common


ASKED = st.fixed_dictionaries(
    {
        "length": st.integers(1, 150),
        "count": st.integers(1, 40),
        "salt": st.integers(0, 2),
        "batch": st.booleans(),
        "n": st.sampled_from([1, 1, 1, 3]),
        "at": st.integers(0, 60),
        "cancel": st.one_of(st.none(), st.integers(0, 80)),
    }
)


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(
    st.lists(ASKED, min_size=1, max_size=8),
    st.sampled_from([260, 400, 1000]),
    st.sampled_from([FakeModel, SingleModel]),
)
def test_whatever_comes_each_answer_is_its_own(asked: list[dict], tokens: int, model: type[FakeModel]) -> None:
    simulated = Simulated(room=SmallRoom(tokens), model=model())
    handles: dict[Handle, dict] = {}
    for step in range(2000):
        for one in asked:
            prompt = prompt_of(one["length"], one["salt"])
            if one["at"] == step:
                how = {"priority": BATCH} if one["batch"] else {}
                for handle in simulated.submit_choices(
                    prompt, max_tokens=one["count"], sampling=GREEDY, n=one["n"], **how
                ):
                    handles[handle] = one
        for handle, one in handles.items():
            if one["cancel"] == step:
                handle.cancel()
        simulated.step()
        if step > 80 and not simulated.scheduler.busy:
            break
    assert not simulated.scheduler.busy
    for handle, one in handles.items():
        said = simulated.tokens(handle)
        ends = [event for _, event in simulated.said[handle] if event.finish is not None]
        assert len(ends) == 1
        assert said == continuation(prompt_of(one["length"], one["salt"]), one["count"])[: len(said)]
        if ends[0].finish is Finish.LENGTH:
            assert len(said) == one["count"]
        else:
            assert ends[0].finish is Finish.CANCELLED, ends[0]
            assert one["cancel"] is not None
