"""The engine as people strain it: ours in this process beside llama-server, in turns within one run.

    python bench/engine.py [--scene NAME ...] [--quick] [--rounds N] [--llama-server PATH --gguf FILE] [--json]

Scenes (bench/scenes): one answer, eight and thirty-two at once, a long prompt beside a stream, a prompt that was seen
before, many requests on one document, agents' sessions in turn, drawn tokens, and what a step costs the host. Both get
the same token ids, which nobody has seen before, and take the likeliest token; ours is asked as `mlxrun.engine`, the
other over HTTP. A round plays each scene to each engine once. Medians of the rounds count, and a ratio is the median of
what stood side by side. llama-server should have the weights in its fastest form (Q4_0), and slots for all requests.
What is wanted (the bars) is told beside each figure. Run it on a machine with nothing else to do; `--first` asks the
system to run these two before everybody else, where that is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from peers.workers import Worker
from scenes import reading, speaking
from scenes.asked import Prompts, median
from scenes.ours import Ours
from scenes.scene import QUICK, WHOLE, Played, Scene, Sizes
from scenes.server import Server

SCENES = {scene.name: scene for scene in (*speaking.SCENES, *reading.SCENES)}
MLX_STEPS = 6
Found = dict[str, list[Played]]  # by the engine's name, one for each round


def played(scene: Scene, ours: Ours, flags: argparse.Namespace, sizes: Sizes) -> Found:
    found: Found = {}
    with other(scene, flags, sizes) as peers:
        for number in range(flags.rounds):
            for peer in (ours, *peers):
                prompts = Prompts(ours.vocab, seed=hash((scene.name, flags.seed + number)))
                found.setdefault(peer.name, []).append(scene.play(peer, prompts, sizes))
    return found


@contextmanager
def other(scene: Scene, flags: argparse.Namespace, sizes: Sizes) -> Iterator[list[Server]]:
    if flags.llama_server is None or not scene.other:
        yield []
        return
    server = Server(flags.llama_server, flags.gguf, scene.slots, scene.context(sizes), flags.threads)
    try:
        yield [server]
    finally:
        server.close()


def rows(scene: Scene, found: Found) -> list[dict[str, Any]]:
    """One for each figure."""
    ours, *others = found.values()
    told = []
    for figure in ours[0]:
        row: dict[str, Any] = {"scene": scene.name, "figure": figure, "ours": median([one[figure] for one in ours])}
        for theirs in others:
            if figure in theirs[0]:
                row["other"] = median([one[figure] for one in theirs])
                pairs = zip(ours, theirs, strict=True)
                row["ratio"] = median([mine[figure] / its[figure] for mine, its in pairs if its[figure]] or [0.0])
        for bar in scene.bars:
            value = row.get("ratio") if bar.beside else row["ours"]
            if bar.figure == figure and value is not None:
                of = "times the other" if bar.beside else ""
                row["bar"] = f"{'>=' if bar.least else '<='} {bar.wanted:g} {of}".strip()
                row["reached"] = bar.reached(value)
        told.append(row)
    return told


def beside_mlx_lm(told: Sequence[dict[str, Any]], file: Path, threads: int) -> dict[str, Any]:
    """32 requests of ours against 32 rows that mlx-lm only decodes, from the same weights as float32: it reads nothing
    and nobody comes or goes, so it does better here than it would."""
    with Worker("mlx_plain", file, widened=True, threads=threads) as plain:
        plain.ask("fill", context=2, batch=32, steps=MLX_STEPS)
        rate = 32 * MLX_STEPS / plain.ask("decode", steps=MLX_STEPS)
    ours = next(row["ours"] for row in told if (row["scene"], row["figure"]) == ("thirty-two", "tokens/s"))
    ratio = ours / rate
    figure = {"scene": "thirty-two", "figure": "tokens/s, the other: mlx-lm, float32, decoding only"}
    return {
        **figure,
        "ours": ours,
        "other": rate,
        "ratio": ratio,
        "bar": ">= 15 times the other",
        "reached": ratio >= 15,
    }


def table(told: Sequence[dict[str, Any]]) -> str:
    lines = ["| scene | figure | mlxrun | llama-server | ratio | wanted | |", "|---|---|---|---|---|---|---|"]
    for row in told:
        cells = [row["scene"], row["figure"], number(row["ours"]), number(row.get("other")), number(row.get("ratio"))]
        reached = {True: "reached", False: "**missed**", None: ""}[row.get("reached")]
        lines.append(f"| {' | '.join([*cells, row.get('bar', ''), reached])} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def before_others() -> None:
    """Linux weighs sessions against each other before it looks at what each process asks for."""
    with suppress(OSError):
        os.setsid()
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-15")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2")
    parser.add_argument("--scene", action="append", choices=SCENES, help="only this one (repeatable)")
    parser.add_argument("--quick", action="store_true", help="shorter prompts and answers: no figures to keep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--llama-server", metavar="PATH")
    parser.add_argument(
        "--gguf", metavar="FILE", type=Path, help="for llama-server: the same weights, its fastest form"
    )
    parser.add_argument("--mlx-lm", action="store_true", help="32 requests beside mlx-lm too, on weights in float32")
    parser.add_argument("--first", action="store_true", help="run before everybody else (needs the right to)")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if (flags.llama_server is None) != (flags.gguf is None):
        parser.error("--llama-server and --gguf go together.")
    if flags.first:
        before_others()
    os.environ["MLXRUN_THREADS"] = str(flags.threads)
    from mlxrun.settings import from_environment
    from mlxrun.store.resolve import resolve

    sizes, told = QUICK if flags.quick else WHOLE, []
    ours = Ours(resolve(flags.model), from_environment().ready)
    try:
        for name in flags.scene or SCENES:
            began = time.perf_counter()
            told += rows(SCENES[name], played(SCENES[name], ours, flags, sizes))
            print(f"{name} took {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    finally:
        ours.close()
    if flags.mlx_lm and "thirty-two" in (flags.scene or SCENES):
        told.append(beside_mlx_lm(told, resolve(flags.model), flags.threads))
    load = os.getloadavg()[0]
    if flags.json:
        here = {"processor": platform.processor(), "cores": os.cpu_count(), "threads": flags.threads, "load": load}
        print(json.dumps({"machine": here, "quick": flags.quick, "figures": told}, indent=2, default=str))
    else:
        print(table(told))
        print(f"\n{flags.threads} threads, medians of {flags.rounds} rounds; the machine's load at the end: {load:.1f}")


if __name__ == "__main__":
    main()
