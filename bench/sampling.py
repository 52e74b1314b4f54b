"""What it takes to draw a token for each row: ours over mlx-lm's samplers, same logits, same run, in turns.

Logits like a model's: most far below a few. Medians of rounds; ours is whatever this device uses.

    python bench/sampling.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler

from mlxrun.core import Sampling
from mlxrun.engine.sampler import Draw, sample
from mlxrun.ops.device import this_device

VOCAB, ROUNDS = 49_152, 15
KINDS = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.8},
    "top_p 0.9": {"temperature": 0.8, "top_p": 0.9},
    "top_k 40": {"temperature": 0.8, "top_k": 40},
    "top_k 40, top_p 0.9, min_p 0.05": {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
}
ROWS = (1, 8, 32)


def ours(logits: mx.array, kind: dict[str, float]) -> Callable[[], None]:
    device, draws = this_device(), [Draw(Sampling(**kind, seed=row), row, 0) for row in range(len(logits))]
    return lambda: mx.eval(sample(logits, draws, device).tokens)


def theirs(logits: mx.array, kind: dict[str, float]) -> Callable[[], None]:
    sampler = make_sampler(
        temp=kind["temperature"],
        top_p=kind.get("top_p", 0.0),
        min_p=kind.get("min_p", 0.0),
        top_k=int(kind.get("top_k", 0)),
    )
    return lambda: mx.eval(sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True)))


def measured(rows: int, kind: dict[str, float]) -> dict[str, float]:
    rng = np.random.default_rng(rows)
    logits = mx.array(rng.gumbel(0, 1.5, (rows, VOCAB)) + 12 * (rng.random((rows, VOCAB)) < 2e-4), mx.float32)
    forms = {"ours": ours(logits, kind), "mlx-lm": theirs(logits, kind)}
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, run in forms.items():
            start = time.perf_counter()
            run()
            spent[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    found = {f"{name}, {rows} rows": measured(rows, kind) for name, kind in KINDS.items() for rows in ROWS}
    if flags.json:
        print(json.dumps(found, indent=2))
        return
    print(f"milliseconds for rows of {VOCAB:,} logits")
    for name, taken in found.items():
        ratio = taken["mlx-lm"] / taken["ours"]
        print(f"{name:42} ours {taken['ours']:8.3f}  mlx-lm {taken['mlx-lm']:8.3f}  {ratio:6.1f}x")


if __name__ == "__main__":
    main()
