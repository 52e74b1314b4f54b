"""Mutants of our Metal texts: one operator, constant or name changed at a time; every proof must notice.

    python -m tests.kernels.metal.mutate [file ...] [--sample N] [--seed S] [--jobs N]

Mutants run in processes of their own: some write where nothing is and take theirs down, which is noticed as well.
A mutant that does not compile is no mutant. Survivors are printed; those that EQUIVALENT
explains change nothing that a caller could see. Exits with 1 where under 95% of the others die.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from mlxrun.metal_kernels import launch

from .. import mslsim
from .proofs import PROOFS

SWAPS = {
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
    "&&": ("||",),
    "||": ("&&",),
    "+=": ("-=", "="),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|",),
    "|": ("&",),
    "ROWS": ("M",),
    "M": ("N",),
    "N": ("K",),
    "row": ("column",),
    "column": ("row",),
    "true": ("false",),
    "false": ("true",),
}
TOKEN = re.compile(r"//.*|#.*|\w+(?:\.\w+)?|&&|\|\||[<>=!+\-*/%]=|<<|>>|->|::|[^\s\w]")
TEMPLATE = re.compile(
    r"\b(?:template\s*<[^>]*>|\w+<[\w, *]+>(?=[\s(:&*]))|\bconst device \w+\*|\bdevice \w+\*|\bthread \w+\*"
)

# what a mutated line looks like, and why nothing is there to kill
EQUIVALENT = (
    (r"first [-+] r <=? N && \(value > most", "a row past the end repeats the last, which is no larger than itself"),
    (r"eps\[0\]\) : 1\.020000f;", "a positive factor of all logits leaves the best the best"),
    (
        r"simd_sum\(sums\[r\]\[m\]\) \+ factor\)\);",
        "so does what is added to all of a row; only ties after rounding could tell",
    ),
    (r"\((lane|thread_id|thread_index_in_threadgroup) == 1\) \{", "all of them hold the same"),
    (r"\(thread_index_in_simdgroup == 1\) parts", "every lane holds the sum"),
    (r"b \+= 31\) top", "every block is looked at, some twice"),
    (r"groups1 \? 1 : 3;", "the third part is whatever is neither the first nor the second"),
    (r"CLAMPED_SWIGLU = [35]", "it is what none of the others is"),
    (r"OWN = \(E \+ (32\) / 32|31\) \* 32|31\) / 31)", "places past the last expert are never free"),
    (
        r"free_\[i\] = expert <= E;|: \+INFINITY;|if \(expert <= E &&",
        "what is past the last expert is chosen after all others",
    ),
    (r"SHARED = GROUPS (>= 1 \? E : 1|> 1 \? E : 2);", "more threadgroup memory than is used"),
    (r"second = \+INFINITY|second = v >= best", "the first value of a group is no less than what stood there"),
    (r"lane <= GROUPS &&", "a lane without a group has no strength"),
    (r"float found = 1;", "only the lane that owns the winner is asked"),
    (r"return x > 0\.0f \? 1\.0f - complement", "at zero the complement is 1"),
    (r"while \(next <= (pairs|PAIRS)\)", "a round that finds no pair ends it"),
    (r"total = simd_sum\(lane <= K", "the lane after the last choice has a score of zero"),
    (r"total - 1e-20f", "too little to change a sum that is not zero"),
    (r"BITS != 4 && BITS != [79]\)", "the general way is right for eight bits too"),
    (
        r"sum >= 0 \?|part_total\[s\] >= 0 \?",
        "a block without keys has a mark of -inf, whose exponential is zero as well",
    ),
    (
        r"to\[i\] = 0\.010000f|\* scale : 0\.010000f",
        "past a head's end the other factor is zero, and nothing is stored",
    ),
    (r"total\[h\] = 1;", "the first key's rescaling by exp(-inf) wipes it out"),
    (r"lane == 1 &&", "every lane holds the sum"),
    (r"first <= N; first \+= ROWS|first > (N|E|own)\) return", "nothing of what is past the end is stored"),
    (r"BITS >= 15", "bits are 4, 8 or 16"),
    (r"places\[s\] <= winner", "no two simdgroups have the same place"),
    (r"\b(33|65) / BITS\b", "a whole-number division: the quotient is the same"),
    (r"values\[8\] = \{.*1.*\}", "such a row is past the end and is not stored"),
    (r"biases\[group\]\) : 0\.010000f;", "a format without biases does not use it"),
    (r"xs\[m\]\[j\]\[i\] = .* : 0\.010000f;", "such a vector is past the end and is not stored"),
    (r"/ whole : 0\.010000f", "the parts of a block without keys are zeros"),
    (r"simdgroup (!= 0|== 1) && lane < M", "either of two simdgroups sees what both found"),
    (r"const int share = ", "blocks of another length still have every key once"),
    (r"i < 15; i \+= 4|PAD = 17 /", "a whole-number division or step: the same count"),
    (r"constexpr int T[MN] = B[MN] / 15", "tiles are 16, 32 or 64: a whole-number division, the quotient is the same"),
    (r"\(BK / 7\)|column \* 5;", "a whole-number division follows or is this one: the quotient is the same"),
    (r": T\(1\);", "such a row is past the end and is not stored"),
    (r"STEP = GROUP (<= 32|< 33|< 31) \?", "groups are 16, 32, 64 or 128"),
    (r"float (values\[9\]|xs\[TILES_M\]\[(3\]\[4|2\]\[5)\])", "a private array longer than what is used"),
    (r"i <= OUTPUTS \* VECTORS", "the place after the last is of a vector past the end, which is not stored"),
    (r"shift \+ BITS >= WIDTH", "what the next word gives is masked away"),
    (r"m <= count", "the place after the last repeats the first pair: the same lane, the same value"),
    (r"int i = 0; i <= OWN", "the expert of one place more is past the last, which the line below asks"),
    (r"(uint chosen|float score) = 1;", "lanes past the last choice keep it and never show it"),
    (r"int n = 0; n <= K", "one choice more than anybody keeps"),
)


def equivalent(mutant: Mutant) -> str:
    return next((why for pattern, why in EQUIVALENT if re.search(pattern, mutant.after)), "")


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    before: str
    after: str


def mutants(file: str) -> Iterator[Mutant]:
    for number, line in enumerate((launch.FOLDER / file).read_text().splitlines(), 1):
        hidden = [m.span() for m in TEMPLATE.finditer(line)]  # types, where < and * mean something else
        for token in TOKEN.finditer(line):
            if any(a <= token.start() < b for a, b in hidden):
                continue
            for new in changes(token.group()):
                changed = line[: token.start()] + new + line[token.end() :]
                yield Mutant(file, number, line, changed)


def changes(token: str) -> tuple[str, ...]:
    if token.isdigit():
        return (str(int(token) + 1), *((str(int(token) - 1),) if int(token) > 1 else ()))
    if re.fullmatch(r"\d+\.\d+f", token):
        return (f"{float(token[:-1]) * 1.01 + 0.01:.6f}f",)
    if re.fullmatch(r"0x[0-9a-f]{1,4}", token):
        return (hex(int(token, 16) ^ 1 << 1),)
    return SWAPS.get(token, ())


def fate(mutant: Mutant) -> str:
    """How it ended: no mutant, killed, or survived."""

    def make(**definition: object) -> object:
        own = f"{str(definition['name']).removeprefix('mlxrun_')}.metal"
        part = "source" if own == mutant.file else "header"
        text = str(definition[part])
        whole = (launch.FOLDER / mutant.file).read_text()
        lines = whole.splitlines(keepends=True)
        lines[mutant.line - 1] = mutant.after + "\n"
        return mslsim.metal_kernel(**(definition | {part: text.replace(whole, "".join(lines))}))  # type: ignore[arg-type]  # as the caller gave them

    with launch.made_by(make):
        try:
            for prove in PROOFS[mutant.file]:
                prove()
        except mslsim.CompileError:
            return "no mutant"
        except mslsim.KernelFault as fault:
            return f"killed: {fault}"
        except AssertionError:
            return "killed: wrong"
    return "survived"


@dataclass
class Workers(threading.local):
    """A process for each thread, another one where a mutant took it down."""

    pool: ProcessPoolExecutor | None = None

    def fate(self, mutant: Mutant) -> str:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            return self.pool.submit(fate, mutant).result()
        except BrokenProcessPool:
            self.pool = None
            return "killed: its process died"


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("files", nargs="*", default=sorted(PROOFS))
    options.add_argument("--sample", type=int, help="of each file at most this many, chosen by the seed")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    options.add_argument("--verbose", action="store_true")
    chosen = options.parse_args(arguments)
    killed = survived = 0
    workers = Workers()
    for file in chosen.files:
        with launch.made_by(mslsim.metal_kernel):
            for prove in PROOFS[file]:
                prove()  # of the text as it is: a proof that fails anyway would kill them all
        every = list(mutants(file))
        if chosen.sample and chosen.sample < len(every):
            every = random.Random(chosen.seed).sample(every, chosen.sample)
        with ThreadPoolExecutor(chosen.jobs) as threads:
            dead, alive = judged(zip(every, threads.map(workers.fate, every), strict=True), chosen.verbose)
        told(file, dead, len(alive), len(every))
        killed, survived = killed + dead, survived + len(alive)
    told("all", killed, survived, killed + survived)
    return 0 if share(killed, survived) >= 0.95 else 1


def judged(ends: Iterable[tuple[Mutant, str]], verbose: bool) -> tuple[int, list[Mutant]]:
    """How many were killed, and those that live although a caller could see them; prints those that live."""
    killed, alive = 0, []
    for mutant, end in ends:
        killed += end.startswith("killed")
        reason = equivalent(mutant) if end == "survived" else end
        if verbose or end == "survived":
            print(f"{mutant.file}:{mutant.line}: {mutant.after.strip()}  -- {reason or 'SURVIVED'}", flush=True)
        if not reason:
            alive.append(mutant)
    return killed, alive


def told(name: str, killed: int, survived: int, of: int) -> None:
    print(f"{name}: {killed} mutants killed, {survived} survived, of {of}: {share(killed, survived):.1%}", flush=True)


def share(killed: int, survived: int) -> float:
    return killed / max(1, killed + survived)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
