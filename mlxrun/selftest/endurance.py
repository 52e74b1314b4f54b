"""Part: a small model is loaded many times and asked in many ways, and nothing may be left behind.

Requests are greedy and drawn, alone and together, cancelled and too long to be served. What this process holds is
taken once the first loads are over, and again at the end.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from ..core import Finish, Request, Sampling
from ..engine.engine import Engine
from ..loading import LoadOptions, load_model
from .held import MIB, HeldNow, held
from .made import Dimensions, write
from .notes import Notes

LOADS, QUICK_LOADS, FIRST = 20, 4, 2  # the first ones make what stays
ASKING, QUICK_ASKING = 120.0, 1.0  # seconds, at most
SHARE = 0.8  # of the part's time
CONTEXT, LONGEST = 512, 40
MOST = HeldNow(private=24 * MIB, arrays=MIB, descriptors=0, threads=1)  # that may be left
EXPECTED = {"greedy": Finish.LENGTH, "drawn": Finish.LENGTH, "cancelled": Finish.CANCELLED, "too long": Finish.REFUSED}


def load_and_ask(notes: Notes) -> str:
    shape = (
        Dimensions(layers=4, files=1) if notes.quick else Dimensions(layers=8, dim=512, hidden=1024, heads=8, files=2)
    )
    loads, chance, early = QUICK_LOADS if notes.quick else LOADS, random.Random(1), notes.left * (1 - SHARE)
    finished, done = Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="mlxrun-selftest-") as scratch:
        write(Path(scratch), shape)
        before = held()
        for number in range(loads):
            if notes.left < early and number > FIRST:
                break
            if number == FIRST:
                before = held()
            notes.begin(f"load {number + 1} of {loads}")
            with_engine(Path(scratch), partial(ask_some, chance, finished, notes))
            done = number + 1
        left_behind(notes, f"{done} loads", before)
        last = max(early, notes.left - (QUICK_ASKING if notes.quick else ASKING))
        notes.begin("asking for a long time")
        with_engine(Path(scratch), partial(ask_until, chance, finished, notes, last))
        left_behind(notes, "requests", before)
    notes.number("requests", dict(finished))
    return f"{done} loads and {sum(finished.values())} requests; nothing was left behind"


def with_engine(folder: Path, use: partial[None]) -> None:
    engine = Engine.start(lambda: load_model(folder, options=LoadOptions(CONTEXT)), CONTEXT)
    try:
        use(engine)
    finally:
        engine.close()


def ask_some(chance: random.Random, finished: Counter[str], notes: Notes, engine: Engine) -> None:
    """One of each kind at once, then a few more."""
    ask(engine, chance, list(EXPECTED), finished, notes)
    ask(engine, chance, chance.choices(list(EXPECTED), k=4), finished, notes)


def ask_until(chance: random.Random, finished: Counter[str], notes: Notes, until: float, engine: Engine) -> None:
    """Until so many seconds are left; once half of that is over, nothing more may be taken."""
    while notes.left > until:
        ask(engine, chance, chance.choices(list(EXPECTED), k=chance.randint(1, 8)), finished, notes)


def ask(engine: Engine, chance: random.Random, kinds: list[str], finished: Counter[str], notes: Notes) -> None:
    handles = []
    for kind in kinds:
        length = CONTEXT + 1 if kind == "too long" else chance.randint(1, LONGEST)
        prompt = tuple(chance.randrange(engine.model.vocab) for _ in range(length))
        sampling = Sampling(temperature=0.8, top_p=0.9, seed=7) if kind == "drawn" else Sampling(temperature=0)
        tokens = CONTEXT - LONGEST if kind == "cancelled" else chance.randint(1, LONGEST)
        handle = engine.submit(Request(prompt, tokens, sampling))
        if kind == "cancelled":
            handle.cancel()
        handles.append((kind, handle))
    for kind, handle in handles:
        *_, end = handle
        finished[kind] += 1
        if end.finish is not EXPECTED[kind]:
            notes.check(kind, False, f"it ended as {end.finish}: {end.reason or 'no reason was given'}")


def left_behind(notes: Notes, after: str, before: HeldNow) -> None:
    grown = held().since(before)
    for name, count in grown.items():
        most = getattr(MOST, name)
        said = f"{count / MIB:+.1f} MiB after {after}" if most >= MIB else f"{count:+} after {after}"
        notes.check(f"{name}, {after}", count <= most, said, grown=count, most=most)
