"""A LoRA step of ours against mlx-lm's: same model, same text, same rank beside the same matrices, in turns.

Each in a process of its own, which takes a step whenever it is told to, so neither's memory counts for the other.
Ours trains what `mlxrun train` trains; mlx-lm its own class, on the MLX checkpoint that `mlxrun convert` makes of the
same file (its CPU path computes quantized products in float32 then), or of float32 weights (--wide). Medians of rounds.

    python bench/training.py [MODEL] [--tokens 128] [--rank 8] [--rounds 5] [--wide] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SEED, RATE = 3, 1e-4


def ids_of(tokens: int, vocab: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(SEED).integers(20, vocab, tokens).tolist()


def ours(model: str, tokens: int, rank: int) -> Any:
    import mlx.core as mx
    import numpy as np
    from mlx.optimizers import AdamW

    from mlxrun.loading.open import open_model
    from mlxrun.training.config import TrainConfig
    from mlxrun.training.core import build_core
    from mlxrun.training.examples import Example
    from mlxrun.training.objectives import loss_of, units
    from mlxrun.training.pairs import find_pairs

    opened = open_model(model)
    decoder = build_core(opened)
    config = TrainConfig("", (), "", rank=rank, alpha=2.0 * rank, targets=TARGETS)
    pairs = find_pairs(opened, decoder.adapted.places, config)
    ids = np.array(ids_of(tokens, decoder.spec.vocab), np.int32)
    example = Example(ids, np.arange(len(ids)) > 0)
    trained, optimizer = pairs.drawn(0), AdamW(RATE, bias_correction=True)
    gradient = mx.value_and_grad(loss_of(decoder, pairs, config))

    def step() -> float:
        nonlocal trained
        loss, found = gradient(trained, [example], units([example]))
        trained = optimizer.apply_gradients(found, trained)
        mx.eval(loss, trained, optimizer.state)
        return loss.item()

    return step


def theirs(model: str, tokens: int, rank: int) -> Any:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.optimizers import AdamW
    from mlx_lm.tuner.trainer import default_loss
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    net, config = load_model(Path(model))
    net.freeze()
    keys = {f"self_attn.{name}" if name[1] == "_" else f"mlp.{name}" for name in TARGETS}
    linear_to_lora_layers(net, len(net.layers), {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": keys})
    net.train()
    ids = mx.array([ids_of(tokens, config["vocab_size"])])
    lengths = mx.array([[1, tokens]])
    optimizer = AdamW(RATE, bias_correction=True)
    gradient = nn.value_and_grad(net, default_loss)

    def step() -> float:
        (loss, _), found = gradient(net, ids, lengths)
        optimizer.update(net, found)
        mx.eval(loss, net.trainable_parameters(), optimizer.state)
        return loss.item()

    return step


def serve(who: str, model: str, tokens: int, rank: int) -> None:
    step = {"ours": ours, "theirs": theirs}[who](model, tokens, rank)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({"seconds": time.perf_counter() - began, "loss": loss, "peak": peak}), flush=True)


def begin(who: str, model: str, flags: argparse.Namespace) -> subprocess.Popen[str]:
    told = [sys.executable, __file__, model, "--as", who, "--tokens", str(flags.tokens), "--rank", str(flags.rank)]
    made = subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    while made.stdout.readline().strip() != "ready":
        if made.poll() is not None:
            raise SystemExit(f"{who} ended before it was ready.")
    return made


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def converted(model: str, folder: Path, wide: bool) -> str:
    from mlxrun.cli import main

    if main(["convert", model, "-o", str(folder), *(["--dtype", "float32"] if wide else [])]):
        raise SystemExit("mlxrun convert did not make a checkpoint for mlx-lm.")
    return str(folder)


def compare(flags: argparse.Namespace) -> dict[str, Any]:
    from mlxrun.store.resolve import resolve

    model = str(resolve(flags.model))
    with tempfile.TemporaryDirectory() as folder:
        mlx = converted(model, Path(folder) / "mlx", flags.wide)
        running = {"ours": begin("ours", model, flags), "theirs": begin("theirs", mlx, flags)}
        told: dict[str, list[dict[str, float]]] = {who: [] for who in running}
        for _ in range(flags.rounds + 1):
            for who, process in running.items():
                told[who].append(ask(process))
        for process in running.values():
            process.stdin.close()
            process.wait()
    seconds = {who: statistics.median(one["seconds"] for one in steps[1:]) for who, steps in told.items()}
    return {
        "seconds": seconds,
        "ratio": seconds["theirs"] / seconds["ours"],
        "first loss": {who: steps[0]["loss"] for who, steps in told.items()},
        "peak MB": {who: steps[-1]["peak"] / 1e6 for who, steps in told.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wide", action="store_true", help="mlx-lm's weights in float32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--as", dest="who", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.who:
        serve(flags.who, flags.model, flags.tokens, flags.rank)
        return
    found = compare(flags)
    if flags.json:
        print(json.dumps(found, indent=2))
        return
    seconds, peak = found["seconds"], found["peak MB"]
    print(f"a step: ours {seconds['ours']:.2f} s, mlx-lm {seconds['theirs']:.2f} s, {found['ratio']:.1f} times ours")
    print(f"peak: ours {peak['ours']:,.0f} MB, mlx-lm {peak['theirs']:,.0f} MB; first losses {found['first loss']}")


if __name__ == "__main__":
    main()
