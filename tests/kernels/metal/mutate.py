"""Mutants of our Metal texts: one operator, constant or name changed at a time; every proof must notice.

    python -m tests.kernels.metal.mutate [file ...] [--sample N] [--seed S] [--jobs N] [--minutes M]

Mutants run in processes of their own: some write where nothing is and take theirs down, which is noticed as well.
A mutant that does not compile is no mutant. Survivors are printed; those that EQUIVALENT
explains change nothing that a caller could see. Exits with 1 where under 95% of the others die.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from mlxrun.metal_kernels import launch

from .. import mslsim, mutants
from ..mutants import KILLED, NO_MUTANT, SURVIVED, Equivalent, Mutant
from .made import simulated
from .proofs import PROOFS

SWAPS = mutants.SWAPS | {
    "&&": ("||",),
    "||": ("&&",),
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
    (r"b \+= 31\) \{  // the largest", "every block is looked at, some twice"),
    (
        r"uint\(E \+ 1\)",
        "nothing that is compared is NaN, so a winner is an expert; the bound is for what nobody foresaw",
    ),
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
    (r"total = simd_sum\(lane <= K", "the lane after the last choice has a score of zero"),
    (r"total - 1e-20f", "too little to change a sum that is not zero"),
    (r"BITS != 4 && BITS != [79]\)", "the general way is right for eight bits too"),
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
    (r"whole == 0 \? 0\.010000f", "the sum of a block without keys is zero, and so is what its parts are taken by"),
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


def mutants_of(file: str) -> Iterator[Mutant]:
    for number, line in mutants.lines(launch.FOLDER / file):
        hidden = [m.span() for m in TEMPLATE.finditer(line)]  # types, where < and * mean something else
        for token in TOKEN.finditer(line):
            if any(a <= token.start() < b for a, b in hidden):
                continue
            for new in mutants.changes_of_number(token.group()) or SWAPS.get(token.group(), ()):
                changed = line[: token.start()] + new + line[token.end() :]
                yield Mutant(file, number, line, changed)


def fate(mutant: Mutant) -> str:
    """How it ended: no mutant, killed, or survived."""

    def make(**definition: object) -> object:
        own = f"{str(definition['name']).removeprefix('mlxrun_')}.metal"
        part = "source" if own == mutant.file else "header"
        text = str(definition[part])
        whole = (launch.FOLDER / mutant.file).read_text()
        return simulated(**(definition | {part: text.replace(whole, mutant.applied(whole))}))  # type: ignore[arg-type]  # as the caller gave them

    with launch.made_by(make):
        try:
            prove(mutant.file)
        except mslsim.CompileError:
            return NO_MUTANT
        except mslsim.KernelFault as fault:
            return f"{KILLED}: {fault}"
        except AssertionError:
            return f"{KILLED}: wrong"
    return SURVIVED


def prove(file: str) -> None:
    for proof in PROOFS[file]:
        proof()


def prove_as_it_is(file: str) -> None:
    with launch.made_by(simulated):
        prove(file)


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
            return f"{KILLED}: its process died"


def main(arguments: list[str]) -> int:
    equivalent = [Equivalent("", line, why) for line, why in EQUIVALENT]
    texts = {file: launch.FOLDER / file for file in PROOFS}
    plan = mutants.Plan("metal", texts, mutants_of, Workers().fate, prove_as_it_is, equivalent)
    return mutants.main(plan, __doc__, arguments, mutants.cores())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
