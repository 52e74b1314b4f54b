"""Answers that must be something: what may come follows the grammar, whoever else runs; what goes wrong ends one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import Constraint, Event, Finish, Refusal, Request, Sampling, Shape, TokenVocabulary
from mlxrun.engine import constraint as module
from mlxrun.engine.aids import Aids
from mlxrun.engine.constraint import ConstraintError, Grammars
from mlxrun.engine.engine import Engine
from mlxrun.engine.handle import Handle

from .simulated import Simulated, SmallRoom
from .test_sampling_in_turn import WavyModel

END, SPECIAL = 95, 96
SPELLED = (*[bytes([32 + i]) for i in range(95)], b"<end>", b"<special>")  # all that can be typed, then two marks
VOCABULARY = TokenVocabulary(SPELLED, frozenset({END, SPECIAL}), frozenset({END}), lambda text: list(ids(text)))
PERSON = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
CASES = {
    "schema": (Constraint(Shape.JSON_SCHEMA, PERSON), lambda text: set(json.loads(text)) == {"name", "age"}),
    "regex": (Constraint(Shape.REGEX, "a{2,5}(b|[0-9]{3})"), re.compile("a{2,5}(b|[0-9]{3})").fullmatch),
    "choice": (
        Constraint(Shape.CHOICE, json.dumps(["yes", 'n"o', "\\", "a|b"])),
        lambda text: text in ("yes", 'n"o', "\\", "a|b"),
    ),
    "lark": (Constraint(Shape.LARK, 'start: "<" item+ ">"\nitem: /[xy]/'), re.compile("<[xy]+>").fullmatch),
}


LONG = Constraint(Shape.REGEX, "[a-z]{30}")
LONGER = Constraint(Shape.REGEX, "([a-z][0-9]){70}")


def ids(text: str) -> tuple[int, ...]:
    return tuple(ord(character) - 32 for character in text)


def text_of(events: list[Event]) -> str:
    return "".join(chr(32 + token) for event in events for token in event.tokens)


def prompt(text: str) -> tuple[int, ...]:
    return ids(text)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine.start(WavyModel, aids=Aids(lambda: VOCABULARY))
    yield engine
    engine.close()


def ask(engine: Engine, constraint: Constraint | None, seed: int = 1, count: int = 90, **how: object) -> Handle:
    sampling = Sampling(**{"temperature": 1.0, "seed": seed, **how})
    return engine.submit(Request(prompt("hello"), count, sampling, frozenset({END}), constraint=constraint))


def allowed(bits: np.ndarray | None) -> set[str]:
    assert bits is not None
    return {SPELLED[i].decode() for i in range(97) if bits[i // 32] >> (i % 32) & 1}


def refused(handle: Handle) -> str:
    (only,) = handle
    assert only.finish is Finish.REFUSED
    assert only.refusal is Refusal.REQUEST
    return only.reason or ""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_what_it_must_be(engine: Engine, name: str, temperature: float) -> None:
    constraint, good = CASES[name]
    handles = [ask(engine, constraint, seed, 200, temperature=temperature) for seed in range(6)]
    complete = [events for events in map(list, handles) if events[-1].finish is Finish.STOP]
    assert complete or temperature == 0  # this model may go on for ever with what is likeliest
    for events in complete:
        assert good(text_of(events)), text_of(events)


def test_neighbours_are_as_if_alone(engine: Engine) -> None:
    """With and without a constraint in one pass, and each kind of it."""
    wishes = [None, *(constraint for constraint, _ in CASES.values()), None, CASES["schema"][0], None]
    how = [{}, {}, {"presence_penalty": 0.5}, {}, {}, {"temperature": 0.0}, {}, {"repetition_penalty": 1.2}]
    together = [ask(engine, wish, seed, 40, **own) for seed, (wish, own) in enumerate(zip(wishes, how, strict=True))]
    said = [text_of(list(handle)) for handle in together]
    for seed, (wish, own) in enumerate(zip(wishes, how, strict=True)):
        assert text_of(list(ask(engine, wish, seed, 40, **own))) == said[seed]
    assert max(map(len, engine.model.shapes)) >= 4


def test_a_complete_answer_ends_without_another_step(engine: Engine) -> None:
    handle = ask(engine, Constraint(Shape.CHOICE, '["yes"]'))
    events = list(handle)
    assert text_of(events) == "yes"
    assert events[-1].finish is Finish.STOP
    assert events[-1].usage is not None
    assert events[-1].usage.output_tokens == 3


def test_an_end_token_may_come_where_the_grammar_may_end(engine: Engine) -> None:
    guide = engine._grammars.compiled(Constraint(Shape.REGEX, "ab*")).guide()
    assert allowed(guide.mask().bits) == {"a"}
    guide.read(ids("a")[0])
    assert allowed(guide.mask().bits) == {"b", "<end>"}
    guide.read(END)
    assert guide.mask().complete
    handle = engine.submit(
        Request((1,), 50, Sampling(0, bias=((END, 100.0),)), constraint=Constraint(Shape.REGEX, "ab*"))
    )
    assert [token for event in handle for token in event.tokens] == [*ids("a"), END]  # no stop id: it is told


def test_thoughts_run_free(engine: Engine) -> None:
    """Before one marker or a text of several tokens; where an answer must open its thoughts, only if it does."""
    grammars = engine._grammars
    one = grammars.compiled(Constraint(Shape.REGEX, "ab", after=(SPECIAL,))).guide()
    for token in ids("zz"):
        assert one.mask().bits is None
        one.read(token)
    one.read(SPECIAL)
    assert allowed(one.mask().bits) == {"a"}
    several = grammars.compiled(Constraint(Shape.REGEX, "ab", after=ids("</t>"))).guide()
    for token in ids("so </</t>"):
        assert several.mask().bits is None
        several.read(token)
    assert allowed(several.mask().bits) == {"a"}
    told = Constraint(Shape.REGEX, "ab", after=ids("!"), opener=ids("?")[0])
    with_thoughts, without = grammars.compiled(told).guide(), grammars.compiled(told).guide()
    assert allowed(with_thoughts.mask().bits) == {"a", "?"}
    for token in ids("?aq"):
        with_thoughts.read(token)
        assert with_thoughts.mask().bits is None
    with_thoughts.read(ids("!")[0])
    assert allowed(with_thoughts.mask().bits) == {"a"}
    without.read(ids("a")[0])
    assert allowed(without.mask().bits) == {"b"}
    often = ((ids("e")[0], 6.0),)
    events = list(ask(engine, Constraint(Shape.CHOICE, '["yes","no"]', after=ids("e")), bias=often))
    assert re.fullmatch("[^e]*e(yes|no)", text_of(events)), text_of(events)


def test_marks_are_no_text(engine: Engine) -> None:
    guide = engine._grammars.compiled(Constraint(Shape.REGEX, "(?s:.)*")).guide()
    assert allowed(guide.mask().bits) == {chr(32 + i) for i in range(95)} | {"<end>"}


def test_drafts_are_followed_and_forgotten(engine: Engine) -> None:
    guide = engine._grammars.compiled(Constraint(Shape.CHOICE, '["yes","yet"]')).guide()
    assert guide.fits(ids("yesx")) == 3
    assert guide.fits(ids("no")) == 0
    masks = guide.along(ids("yet"))
    assert [allowed(mask.bits) for mask in masks[:3]] == [{"y"}, {"e"}, {"s", "t"}]
    assert masks[3].complete
    assert len(guide.along(ids("yn"))) == 2
    assert guide.forced() == list(ids("ye"))
    assert allowed(guide.mask().bits) == {"y"}
    guide.read(ids("y")[0])
    assert allowed(guide.mask().bits) == {"e"}


@pytest.mark.parametrize(
    ("shape", "text", "said"),
    [
        (Shape.JSON_SCHEMA, '{"type": "thing"}', "The JSON schema cannot be used: Invalid type: thing."),
        (Shape.JSON_SCHEMA, '{"type":', "The JSON schema cannot be used: EOF while parsing"),
        (Shape.JSON_SCHEMA, '{"not": {}}', 'Unimplemented keys: ["not"]'),
        (Shape.JSON_SCHEMA, '{"type":"integer","minimum":5,"maximum":3}', "minimum (5) is greater than maximum (3)"),
        (Shape.JSON_SCHEMA, '{"items":' * 5000 + "{}" + "}" * 5000, "recursion limit exceeded"),
        (Shape.JSON_SCHEMA, '{"$ref":"#"}', "no text that this model can write satisfies it."),
        (Shape.JSON_SCHEMA, '{"$ref":"http://127.0.0.1/x"}', "does not fetch resources"),
        (Shape.REGEX, "a(b", "unclosed group"),
        (Shape.REGEX, "[^\\x00-\\x{10FFFF}]", "no text that this model can write satisfies it."),
        (Shape.REGEX, "é", "no text that this model can write satisfies it."),
        (Shape.LARK, 'root ::= "a"', "Expected token"),
        (Shape.LARK, "start: " + "(" * 9000 + '"a"' + ")" * 9000, "too deeply nested"),
        (Shape.LARK, "start: a", 'unknown name: "a"'),
        (Shape.CHOICE, '["a", ""]', "A choice must be a JSON array of one or more texts, none of them empty."),
        (Shape.CHOICE, '["é"]', "no text that this model can write satisfies it."),
        (Shape.REGEX, "a" * 200_000, "The regex has 200000 characters; at most 131072 are taken."),
    ],
)
def test_what_is_no_constraint_is_refused_with_the_reason(engine: Engine, shape: Shape, text: str, said: str) -> None:
    reason = refused(ask(engine, Constraint(shape, text)))
    assert said in reason
    assert "\n" not in reason
    assert list(ask(engine, None, count=2))[-1].finish is Finish.LENGTH


def test_the_longest_chain_of_rules_breaks_no_stack(engine: Engine) -> None:
    """llguidance follows one rule to the next by recursion; on a usual stack this one ends the process."""
    rules = "".join(f"r{i}:r{i + 1}\n" for i in range(8500))
    text = "start: r0\n" + rules + 'r8500:"b"'
    assert len(text) < module.MOST_TEXT
    with_chain = ask(engine, Constraint(Shape.LARK, text))
    assert text_of(list(with_chain)) == "b"


def test_without_a_vocabulary_nothing_can_be_constrained() -> None:
    engine = Engine.start(WavyModel)
    assert "cannot be constrained: nobody told" in refused(ask(engine, CASES["regex"][0]))
    engine.close()


def test_where_no_token_ends_an_answer_its_completion_does() -> None:
    endless = TokenVocabulary(SPELLED[:96], frozenset({95}), frozenset(), lambda text: list(ids(text)))
    for size in (95, 96, 97, 128):
        guide = Grammars(lambda: endless, size).compiled(Constraint(Shape.REGEX, "a?b")).guide()
        mask = guide.mask()
        assert mask.bits is not None
        assert len(mask.bits) == -(-size // 32)
        guide.read(ids("b")[0])
        assert guide.mask().complete


def test_bans_that_leave_nothing_end_the_request(engine: Engine) -> None:
    last = list(ask(engine, Constraint(Shape.CHOICE, '["yes"]'), banned=frozenset(ids("y"))))[-1]
    assert last.finish is Finish.FAILED
    assert last.reason is not None
    assert "constrains" in last.reason


def broken(engine: Engine, how: Callable[[], object], at: int) -> None:
    """The matcher of the next request does so when it is told its token number `at`."""
    compiled = engine._grammars.compiled

    def once(constraint: Constraint) -> object:
        engine._grammars.compiled = compiled
        grammar = compiled(constraint)

        class Odd:
            def __init__(self) -> None:
                self.inner, self.steps = grammar.start.deep_copy(), 0

            def __getattr__(self, name: str) -> object:
                return getattr(self.inner, name)

            def deep_copy(self) -> Odd:
                return Odd()

            def consume_tokens(self, tokens: list[int]) -> bool:
                self.steps += 1
                if self.steps == at:
                    how()
                return self.inner.consume_tokens(tokens)

        return replace(grammar, start=Odd())

    engine._grammars.compiled = once


def raises() -> None:
    raise RuntimeError("a matcher that breaks")


class Panic(BaseException):
    """As native code raises where it panics: no Exception."""


def panics() -> None:
    raise Panic("a matcher that panics")


@pytest.mark.parametrize("fault", ["raises", "panics", "hangs"])
def test_a_matcher_that_breaks_ends_its_request_alone(engine: Engine, fault: str) -> None:
    wished = [text_of(list(ask(engine, LONG, seed))) for seed in range(4)]
    gate = threading.Event()
    engine._grammars.masks.seconds = 0.2
    broken(engine, {"raises": raises, "panics": panics, "hangs": gate.wait}[fault], 3)
    odd = ask(engine, LONG, 9)
    others = [ask(engine, LONG, seed) for seed in range(4)]
    last = list(odd)[-1]
    assert last.finish is Finish.FAILED
    assert last.reason is not None
    told = {"raises": "that breaks", "panics": "Panic: a matcher that panics", "hangs": "more than 0.2 seconds"}
    assert told[fault] in last.reason
    assert [text_of(list(handle)) for handle in others] == wished
    gate.set()
    assert text_of(list(ask(engine, LONG, 2))) == wished[2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_replaced(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wished = text_of(list(ask(engine, LONG)))
    engine._grammars.masks.seconds = 0.2
    run, calls = module.Task.run, iter(range(1000))

    def dies(task: module.Task) -> None:
        if next(calls) == 3:
            raise SystemExit
        run(task)

    monkeypatch.setattr(module.Task, "run", dies)
    last = list(ask(engine, LONG))[-1]
    assert last.finish is Finish.FAILED
    assert last.reason is not None
    assert "its thread ended" in last.reason
    assert text_of(list(ask(engine, LONG))) == wished


def test_a_matcher_that_refuses_a_token_tells_its_error(engine: Engine) -> None:
    guide = engine._grammars.compiled(CASES["regex"][0]).guide()
    guide.read(ids("z")[0])
    with pytest.raises(ConstraintError, match=r"What the answer is constrained by broke: .+"):
        guide.mask()


def test_a_grammar_that_doubles_at_each_step_is_the_requests_own_fault(engine: Engine) -> None:
    """It compiles at once, and breaks when it is followed."""
    rules = [f"a{i}: a{i + 1} a{i + 1}" for i in range(40)]
    last = list(ask(engine, Constraint(Shape.LARK, "\n".join(["start: a0", *rules, 'a40: "x"']))))[-1]
    assert (last.finish, last.refusal) == (Finish.FAILED, Refusal.REQUEST)
    assert "broke" in str(last.reason)
    assert list(ask(engine, CASES["regex"][0]))[-1].finish in (Finish.STOP, Finish.LENGTH)


def test_a_request_begins_anew_where_it_was(engine: Engine) -> None:
    """A pass that broke is made again: the grammar goes on from what was read."""
    wished = [text_of(list(ask(engine, CASES["schema"][0], seed))) for seed in range(3)]
    passes, calls = engine.model.__class__.__call__, iter(range(1000))

    def breaks(self: WavyModel, tokens: mx.array, sequences: list) -> mx.array:
        if next(calls) == 6:
            raise RuntimeError("unlucky")
        return passes(self, tokens, sequences)

    engine.model.__class__ = type("Breaks", (WavyModel,), {"__call__": breaks})
    handles = [ask(engine, CASES["schema"][0], seed) for seed in range(3)]
    assert [text_of(list(handle)) for handle in handles] == wished


def test_a_constraint_that_takes_too_long_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    engine._grammars._compiler.seconds = 0.2
    monkeypatch.setattr(module, "grammar_text", lambda constraint: str(gate.wait()))
    told = refused(ask(engine, CASES["regex"][0]))
    assert told == "The regex cannot be used: it took more than 0.2 seconds."
    monkeypatch.undo()
    gate.set()
    assert CASES["regex"][1](text_of(list(ask(engine, CASES["regex"][0]))))


def test_answers_that_fork_follow_the_grammar_each_for_itself(engine: Engine) -> None:
    wish, sampling = CASES["regex"][0], Sampling(1.0, seed=3)
    request = Request(prompt("hello"), 90, sampling, frozenset({END}), n=4, constraint=wish)
    together = [text_of(list(handle)) for handle in engine.submit_choices(request)]
    assert together == [text_of(list(ask(engine, wish, seed))) for seed in range(3, 7)]
    assert all(map(CASES["regex"][1], together))


@pytest.mark.parametrize("forgets", [False, True])
def test_who_must_stop_goes_on_where_it_was(engine: Engine, forgets: bool) -> None:
    """For want of memory, whether what it had read is kept or must be computed again."""

    def answers(room: SmallRoom) -> tuple[list[str], float]:
        simulated = Simulated(room=room, model=WavyModel())
        if forgets:
            simulated.scheduler._prefixes.keep = lambda tokens, memory, scope: None
        handles = []
        for seed in range(6):
            how = {"sampling": Sampling(1.0, seed=seed), "stop_ids": frozenset({END}), "max_tokens": 200}
            handle = Handle(Request(prompt("hello" * 8), **how, constraint=LONGER), simulated.now)
            handle.grammar = engine._grammars.compiled(LONGER)
            simulated.said[handle] = []
            simulated.scheduler.add(handle)
            handles.append(handle)
        simulated.finish()
        assert {simulated.last(handle).finish for handle in handles} == {Finish.STOP}
        preempted = simulated.scheduler.counters.snapshot().totals.get("preemptions", 0)
        return [text_of([event for _, event in simulated.said[handle]]) for handle in handles], preempted

    enough, undisturbed = answers(SmallRoom(10000))
    short, stopped = answers(SmallRoom(700))
    assert (undisturbed, stopped > 0) == (0, True)
    assert short == enough
    assert all(re.fullmatch("([a-z][0-9]){70}", text) for text in short)


def test_a_complete_answer_that_is_shorter_than_asked_for_says_so(engine: Engine) -> None:
    last = list(ask(engine, Constraint(Shape.CHOICE, '["yes"]'), min_tokens=5))[-1]
    assert last.finish is Finish.STOP
    assert last.reason == "What the answer must be was complete after 3 tokens, before min_tokens (5)."
    waits = engine.counters.snapshot().totals
    assert waits["masks"] >= 3
    assert waits["mask_wait_seconds"] > 0


def test_compiled_constraints_are_kept_within_a_limit(engine: Engine) -> None:
    kept = engine._grammars._kept
    first, used = Constraint(Shape.REGEX, "a"), Constraint(Shape.REGEX, "b")
    assert engine._grammars.compiled(first).start is engine._grammars.compiled(first).start
    for index in range(module.KEPT):
        engine._grammars.compiled(used)
        engine._grammars.compiled(Constraint(Shape.REGEX, f"a{{{index + 1}}}"))
    assert len(kept) == module.KEPT
    assert (Shape.REGEX, "a") not in kept
    assert (Shape.REGEX, "b") in kept, "it was used all the time"
    for index in range(3):
        long = "|".join(f"{index}{word}" for word in range(18_000))
        engine._grammars.compiled(Constraint(Shape.REGEX, long))
    assert sum(len(text) for _, text in kept) <= module.KEPT_TEXT
    assert (Shape.REGEX, long) in kept
