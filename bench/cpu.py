"""Decoding and reading prompts on a CPU: ours, llama.cpp and mlx-lm in turns within one run, beside what memory allows.

    python bench/cpu.py [--quick | --case NAME ...] [--rounds N] [--threads N] [--json]

Every engine runs in a process of its own, gets the same file, the same token ids and the same number of threads, and
is asked in turns; the others sleep meanwhile. Medians of the rounds count, and ratios are medians over rounds of what
stood side by side. llama.cpp runs by its C interface with its defaults; it is fed given tokens, so that neither
sampling nor Python weighs on it, while ours draws its tokens. mlx-lm is measured at few tokens: it takes seconds each.
The floor is what would be left if only reading the weights and keys once took time. An engine that dies has a row
that tells how; the others go on. Models and llama.cpp's build are
kept in ~/.cache/mlxrun-bench; the first run builds and makes them. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import place
from peers.floor import Reads, read_bandwidth, reads_of
from peers.processor import build
from peers.workers import Died, Worker

OURS, LLAMA, MLX_4, MLX_32 = "mlxrun", "llama.cpp", "mlx-lm, 4 bits", "mlx-lm, float32"
SHORT = 2  # tokens
STEP = 256  # positions that keys grow by


@dataclass(frozen=True)
class Measure:
    name: str
    context: int = 0
    batch: int = 1
    steps: int = 0  # 0: a prompt is read
    few: int = 0  # steps of an engine that takes seconds for each; 0: it is not asked

    def tokens(self, steps: int) -> int:
        return self.batch * steps if self.steps else self.context


MEASURES = (
    Measure("decode after 32", 32, steps=32, few=2),
    Measure("decode after 512", 512, steps=32),
    Measure("decode after 2048", 2048, steps=24),
    Measure("prompt of 512", 512),
    Measure("prompt of 2048", 2048),
    Measure("8 decode after 32", 32, batch=8, steps=16),
    Measure("32 decode after 32", 32, batch=32, steps=8),
)


@dataclass(frozen=True)
class Case:
    title: str
    files: dict[str, Callable[[], Path]]  # forms of the same model
    plain: str | None = None  # the file that mlx-lm runs too


CASES = {
    "smollm2": Case(
        "SmolLM2-135M",
        {kind: lambda kind=kind: place.smollm2(kind) for kind in ("Q4_1", "Q4_0", "Q4_K_M")},  # type: ignore[misc]  # bound now
        plain="Q4_1",
    ),
    "qwen3-1.7b": Case("Qwen3-1.7B, random weights", {"Q4_0": place.qwen3_1_7b}),
    "qwen3-moe": Case("6 layers of Qwen3-30B-A3B, random weights", {"Q4_0": place.qwen3_moe}),
}


@dataclass
class Runner:
    engine: str
    form: str
    worker: Worker | None
    slow: bool = False
    rates: dict[str, list[float]] = field(default_factory=dict)  # measure: tokens/s, one a round
    peak: int = 0
    died: str = ""  # how; nothing is asked of it afterwards

    def ask(self, do: str, **what: Any) -> Any:
        """None from one that has died."""
        if self.worker is None or self.died:
            return None
        try:
            return self.worker.ask(do, **what)
        except Died as error:
            self.died = error.how
            place.say(f"{self.engine}, {self.form}: {error}")
            return None

    def fill(self, measure: Measure, rounds: int) -> int:
        """Ready for a measure; how many steps it will take, 0 if it is not asked."""
        steps = measure.few if self.slow else measure.steps
        if steps:
            # mlx-lm would read a longer prompt for minutes; a short one makes its decoding no slower
            context = SHORT if self.slow else measure.context
            # a state cannot be taken back, so its sequences grow by every round
            self.ask("fill", context=context, batch=measure.batch, steps=steps * rounds + 2)
        return steps

    def run(self, measure: Measure, steps: int) -> None:
        asked = {"do": "decode", "steps": steps} if measure.steps else {"do": "prefill", "tokens": measure.context}
        seconds = self.ask(**asked)
        if self.died:
            self.rates.pop(measure.name, None)  # of fewer rounds than the others have
        else:
            self.rates.setdefault(measure.name, []).append(measure.tokens(steps) / seconds)


def measured(case: Case, threads: int, rounds: int, measures: Sequence[Measure] = MEASURES) -> list[Runner]:
    with ExitStack() as open_workers:
        runners = started(case, threads, open_workers)
        for measure in measures:
            place.say(f"{case.title}: {measure.name} ...")
            asked = [(r, steps) for r in runners if (steps := r.fill(measure, rounds)) or prompts(r, measure)]
            for _ in range(rounds):
                for runner, steps in asked:
                    if not runner.died:
                        runner.run(measure, steps)
        for runner in runners:
            runner.peak = runner.ask("peak") or 0
    return runners


def started(case: Case, threads: int, open_workers: ExitStack) -> list[Runner]:
    """Every engine with every form of the model, ready to be asked or dead."""
    python, unbuilt = "", ""
    try:
        python = place.llama_python()
    except (subprocess.CalledProcessError, OSError) as error:
        unbuilt = f"it could not be built: {error}"

    def start(engine: str, kind: str, form: str, slow: bool = False, **options: Any) -> Runner:
        if kind == "llama" and unbuilt:
            return Runner(engine, form, None, slow, died=unbuilt)
        try:
            if kind == "ours":  # packed weights are made once, and the peak shall not be of that
                Worker(kind, case.files[form](), threads=threads, **options).close()
            worker = Worker(kind, case.files[form](), threads=threads, **options)
        except (Died, subprocess.CalledProcessError, OSError) as error:
            how = error.how if isinstance(error, Died) else f"its model could not be made: {error}"
            place.say(f"{engine}, {form}: {how}")
            return Runner(engine, form, None, slow, died=how)
        return Runner(engine, form, open_workers.enter_context(worker), slow)

    runners = []
    for form in case.files:
        runners.append(start(OURS, "ours", form, ready=str(place.READY)))
        runners.append(start(LLAMA, "llama", form, python=python))
    if case.plain is not None:
        runners.append(start(MLX_4, "mlx_plain", case.plain, slow=True))
        runners.append(start(MLX_32, "mlx_plain", case.plain, slow=True, widened=True))
    return runners


def prompts(runner: Runner, measure: Measure) -> bool:
    return not measure.steps and not runner.slow


def ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def rows(
    case: Case, runners: list[Runner], bandwidth: float, measures: Sequence[Measure] = MEASURES
) -> list[dict[str, Any]]:
    found = []
    for form in case.files:
        here = [runner for runner in runners if runner.form == form]
        died = {runner.engine: runner.died for runner in here if runner.died}
        for measure in measures:
            row: dict[str, Any] = {"model": case.title, "form": form, "measure": measure.name}
            row |= {"died": died} if died else {}
            row |= speeds_of(form, measure, runners)
            if measure.steps and "ours" in row:
                reads = reads_of(case.files[form]())
                step = reads.step(measure.batch, measure.context + measure.steps / 2)
                row["floor"] = measure.batch * bandwidth / step
                row["floor_share"] = row["ours"] / row["floor"]
            found.append(row)
    return found


def speeds_of(form: str, measure: Measure, runners: list[Runner]) -> dict[str, Any]:
    """Of all that lived through the measure."""
    rates = {(r.engine, r.form): r.rates[measure.name] for r in runners if r.rates.get(measure.name)}
    mine = rates.get((OURS, form))
    row: dict[str, Any] = {"ours": statistics.median(mine)} if mine else {}
    theirs = {name: found for (engine, name), found in rates.items() if engine == LLAMA}
    if form in theirs:
        row |= compared("llama", mine, theirs[form])
    if theirs:
        row["fastest_form"] = max(theirs, key=lambda name: statistics.median(theirs[name]))
        row |= compared("fastest", mine, theirs[row["fastest_form"]])
    for key, engine in (("mlx_4_bits", MLX_4), ("mlx_float32", MLX_32)):
        if (engine, form) in rates:
            row |= compared(key, mine, rates[engine, form])
    return row


def compared(key: str, mine: list[float] | None, theirs: list[float]) -> dict[str, float]:
    return {key: statistics.median(theirs), **({f"{key}_ratio": ratio(mine, theirs)} if mine else {})}


def memory(case: Case, runners: list[Runner], measures: Sequence[Measure] = MEASURES) -> list[dict[str, Any]]:
    """Peaks, and what the weights and the most keys of any measure take."""
    found = []
    for runner in runners:
        part = {"model": case.title, "form": runner.form, "engine": runner.engine}
        if runner.died:
            found.append({**part, "died": runner.died})
            continue
        reads = reads_of(case.files[runner.form]())
        keys = most_keys(reads, measures)
        whole = case.files[runner.form]().stat().st_size
        found.append({**part, "peak": runner.peak, "file": whole, "keys": keys, "over": runner.peak / (whole + keys)})
    return found


def most_keys(reads: Reads, measures: Sequence[Measure]) -> int:
    """Both engines hold room for whole steps of positions."""
    return max(m.batch * reads.keys(-(-(m.context + m.steps) // STEP) * STEP) for m in measures)


def machine(threads: int) -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = lines[0] if lines else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(terse=True),
        "llama_built": build().told,
    }


def table(found: list[dict[str, Any]]) -> list[str]:
    """Markdown, one table a model and form."""
    lines = []
    for title in dict.fromkeys((row["model"], row["form"]) for row in found):
        mine = [row for row in found if (row["model"], row["form"]) == title]
        heads = ["mlxrun", "llama.cpp, same file", "llama.cpp, fastest form"]
        slow = [(k, e) for k, e in (("mlx_4_bits", MLX_4), ("mlx_float32", MLX_32)) if any(k in row for row in mine)]
        heads += [engine for _, engine in slow] + ["memory's floor"]
        lines += [
            "",
            f"{title[0]}, {title[1]} (tokens/s)",
            "",
            "| | " + " | ".join(heads) + " |",
            "|---" * (len(heads) + 1) + "|",
        ]
        died = next((row["died"] for row in mine if "died" in row), {})
        for row in mine:
            cells = [number(row["ours"]) if "ours" in row else "", beside(row, "llama")]
            cells += [f"{beside(row, 'fastest')} {row.get('fastest_form', '')}", *(beside(row, key) for key, _ in slow)]
            cells += [f"{number(row['floor'])} ({row['floor_share']:.0%})" if "floor" in row else ""]
            lines.append(f"| {row['measure']} | " + " | ".join(cells) + " |")
        lines += [f"| {engine} died | {how} |" + " |" * (len(heads) - 1) for engine, how in died.items()]
    return lines


def beside(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return ""
    return number(row[key]) + (f" ({number(row[f'{key}_ratio'])}x)" if f"{key}_ratio" in row else "")


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def memory_table(found: list[dict[str, Any]]) -> list[str]:
    lines = ["", "Peak memory above the interpreter's own (MB), and over the file and the most keys", ""]
    lines += ["| model | form | engine | peak | file | keys | peak / (file + keys) |", "|---|---|---|---|---|---|---|"]
    for row in found:
        if "died" in row:
            lines.append(f"| {row['model']} | {row['form']} | {row['engine']} | died: {row['died']} | | | |")
            continue
        sizes = " | ".join(f"{row[key] / 1e6:.0f}" for key in ("peak", "file", "keys"))
        lines.append(f"| {row['model']} | {row['form']} | {row['engine']} | {sizes} | {row['over']:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="only this one (repeatable)")
    parser.add_argument("--quick", action="store_true", help="SmolLM2 alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    names = ["smollm2"] if flags.quick else flags.case or list(CASES)
    here, bandwidth = machine(flags.threads), read_bandwidth(flags.threads)
    speeds, peaks = [], []
    for name in names:
        runners = measured(CASES[name], flags.threads, flags.rounds)
        speeds += rows(CASES[name], runners, bandwidth)
        peaks += memory(CASES[name], runners)
    if flags.json:
        print(json.dumps({"machine": here, "bandwidth": bandwidth, "speeds": speeds, "memory": peaks}, indent=2))
        return
    print(f"{here['processor']}, {here['cores']} cores, {flags.threads} threads; medians of {flags.rounds} rounds;")
    print(f"memory reads at {bandwidth / 1e9:.1f} GB/s. mlx-lm decodes after a prompt of {SHORT} tokens.")
    print(f"llama.cpp is built {here['llama_built']}.")
    print("\n".join([*table(speeds), *memory_table(peaks)]))


if __name__ == "__main__":
    sys.exit(main())
