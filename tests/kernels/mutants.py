"""A run over mutants, whatever their language: which are judged, what became of each, and the share that died.

Results are kept in a file under build/, by mutant and by the text it was made of, so that a run that was stopped
goes on where it was. Knows neither how a mutant is made nor how it is judged: a `Plan` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 0.95
NO_MUTANT, KILLED, SURVIVED, LEFT = "no mutant", "killed", "survived", "not judged"

# signs of both languages, as they stand between two values
SWAPS: dict[str, tuple[str, ...]] = {
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "/": ("*",),
    "%": ("/",),
    "<": ("<=",),
    "<=": ("<",),
    ">": (">=",),
    ">=": (">",),
    "==": ("!=",),
    "!=": ("==",),
    "+=": ("-=", "="),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|",),
    "|": ("&",),
}


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    before: str
    after: str

    def applied(self, text: str) -> str:
        lines = text.splitlines(keepends=True)
        lines[self.line - 1] = self.after + "\n"
        return "".join(lines)


@dataclass(frozen=True)
class Equivalent:
    """Mutants that change nothing a caller could see."""

    file: str  # empty: of any
    line: str  # a pattern of the mutated line
    why: str
    was: str = ""  # a pattern of the line as it stands: needed where a mutant drops it

    def explains(self, mutant: Mutant) -> bool:
        in_file = self.file in ("", mutant.file)
        return in_file and bool(re.search(self.line, mutant.after) and re.search(self.was, mutant.before))


@dataclass(frozen=True)
class Plan:
    name: str
    texts: dict[str, Path]  # every file that mutants are made of
    mutants: Callable[[str], Iterable[Mutant]]
    fate: Callable[[Mutant], str]  # begins with one of the words above
    prove: Callable[[str], None]  # that the file as it is passes: raises where it does not
    equivalent: Sequence[Equivalent] = ()

    def reason(self, mutant: Mutant) -> str:
        return next((e.why for e in self.equivalent if e.explains(mutant)), "")


@dataclass
class Results:
    """What became of each mutant, a line a mutant."""

    path: Path
    ends: dict[str, str] = field(default_factory=dict)

    def read(self) -> None:
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                told = json.loads(line)
                self.ends[told["key"]] = told["end"]

    def add(self, key: str, mutant: Mutant, end: str) -> None:
        self.ends[key] = end
        self.path.parent.mkdir(parents=True, exist_ok=True)
        told = {"key": key, "file": mutant.file, "line": mutant.line, "after": mutant.after.strip(), "end": end}
        with self.path.open("a") as file:
            file.write(json.dumps(told) + "\n")


def key_of(mutant: Mutant, text: str) -> str:
    return hashlib.sha256(repr((text, mutant)).encode()).hexdigest()[:20]


def changes_of_number(token: str) -> tuple[str, ...]:
    if token.isdigit():
        return (str(int(token) + 1), *((str(int(token) - 1),) if int(token) > 1 else ()))
    if re.fullmatch(r"\d+\.\d+f", token):
        return (f"{float(token[:-1]) * 1.01 + 0.01:.6f}f",)
    if re.fullmatch(r"0x[0-9a-f]{1,8}", token):
        return (hex(int(token, 16) ^ 1 << 1),)
    return ()


def sampled(every: Sequence[Mutant], most: int | None, seed: int) -> list[Mutant]:
    return list(every) if not most or most >= len(every) else random.Random(seed).sample(every, most)


@dataclass
class Count:
    killed: int = 0
    equivalent: int = 0
    alive: list[Mutant] = field(default_factory=list)
    left: int = 0
    judged: int = 0

    def add(self, mutant: Mutant, end: str, reason: str) -> None:
        self.killed += end.startswith(KILLED)
        self.left += end == LEFT
        self.judged += end != LEFT
        self.equivalent += end == SURVIVED and bool(reason)
        if end == SURVIVED and not reason:
            self.alive.append(mutant)

    @property
    def share(self) -> float:
        return self.killed / max(1, self.killed + len(self.alive))

    def told(self, name: str) -> str:
        found = f"{self.killed} mutants killed, {len(self.alive)} survived, {self.equivalent} equivalent"
        return f"{name}: {found}{f', {self.left} not judged' * bool(self.left)}: {self.share:.1%}"


def told_of_all(counts: Sequence[tuple[Count, int]]) -> str:
    """The share of all mutants that samples of their files tell, each judged one for as many as its file has for it,
    and between which bounds that share lies 19 times of 20 (Wilson's, of as many as equal weights would be)."""
    weighed = [(c, total / c.judged) for c, total in counts if c.judged]
    told = sum(w * (c.killed + len(c.alive)) for c, w in weighed)
    if not told:
        return "all: none was judged"
    share = sum(w * c.killed for c, w in weighed) / told
    n = told**2 / sum(w * w * (c.killed + len(c.alive)) for c, w in weighed)
    middle, off = share + 1.92 / n, 1.96 * math.sqrt(share * (1 - share) / n + 0.96 / n**2)
    low, high = ((middle + step) / (1 + 3.84 / n) for step in (-off, off))
    judged = sum(c.judged for c, _ in counts)
    of = f"{judged} of {sum(total for _, total in counts)} judged, each file by its mutants"
    return f"{of}: {share:.1%}, {low:.1%} to {high:.1%}"


def main(plan: Plan, description: str, arguments: list[str], jobs: int) -> int:
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="*", default=sorted(plan.texts))
    options.add_argument("--sample", type=int, help="of each file at most this many, chosen by the seed")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=jobs)
    options.add_argument("--minutes", type=float, help="begin no mutant after so many")
    options.add_argument("--anew", action="store_true", help="judge again what was judged before")
    options.add_argument("--survivors", action="store_true", help="of what was judged before only those that survived")
    options.add_argument("--verbose", action="store_true", help="tell of every mutant, not of survivors alone")
    chosen = options.parse_args(arguments)
    end = time.monotonic() + 60 * chosen.minutes if chosen.minutes else float("inf")
    results, whole = Results(ROOT / "build" / "mutants" / f"{plan.name}.jsonl"), Count()
    counts: list[tuple[Count, int]] = []
    results.read()
    for file in chosen.files:
        text, count = plan.texts[file].read_text(), Count()
        everything = list(plan.mutants(file))
        every = sampled(everything, chosen.sample, chosen.seed)
        counts.append((count, len(everything)))
        if chosen.survivors:
            every = [m for m in every if results.ends.get(key_of(m, text)) == SURVIVED]
        known = {} if chosen.anew or chosen.survivors else results.ends
        judge = Judge(plan, results, known, text, end)
        if any(key_of(m, text) not in known for m in every) and time.monotonic() < end:
            plan.prove(file)  # or a test that fails anyway would kill them all
        with ThreadPoolExecutor(chosen.jobs) as threads:
            for mutant, fate in zip(every, threads.map(judge, every), strict=True):
                reason = plan.reason(mutant)
                count.add(mutant, fate, reason)
                whole.add(mutant, fate, reason)
                if (chosen.verbose and fate != LEFT) or fate == SURVIVED:
                    told = (reason and f"equivalent: {reason}") or "SURVIVED" if fate == SURVIVED else fate
                    print(f"{file}:{mutant.line}: {mutant.after.strip()}  -- {told}", flush=True)
        print(count.told(file), flush=True)
    print(whole.told("all"), flush=True)
    if chosen.sample and not chosen.survivors:
        print(told_of_all(counts), flush=True)
    return 0 if whole.share >= ENOUGH else 1


@dataclass
class Judge:
    plan: Plan
    results: Results
    known: dict[str, str]
    text: str
    end: float

    def __call__(self, mutant: Mutant) -> str:
        key = key_of(mutant, self.text)
        if key in self.known:
            return self.known[key]
        if time.monotonic() > self.end:
            return LEFT
        fate = self.plan.fate(mutant)
        self.results.add(key, mutant, fate)
        return fate


def cores() -> int:
    return os.cpu_count() or 1


def lines(path: Path) -> Iterator[tuple[int, str]]:
    return enumerate(path.read_text().splitlines(), 1)
