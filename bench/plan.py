"""What a plan says of models of some gigabytes, beside what the process takes of the machine for them.

    python -m bench.plan [--layers N] [--contexts 300 1000 2000] [GGUF FILES AND FOLDERS ...]

Without files it makes two checkpoints with random weights where temporary files go: the shape of Qwen3-8B and that of
Qwen3-30B-A3B, 4 bits in groups of 64, with so many layers. Each model runs in a process of its own. Measured are the
blocks of its ready file on the disk, which later starts map; then anonymous memory (RssAnon) once everything that can
be freed has been given back, after loading without such a file, and for each context after a prompt of that length
went through in chunks of 512. Keys and values are also held against what MLX says that it allocated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import load

DENSE: dict[str, Any] = load.SHAPE
EXPERTS: dict[str, Any] = {  # Qwen/Qwen3-30B-A3B-Instruct-2507
    **load.SHAPE,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_key_value_heads": 4,
}
CHUNK = 512
CONTEXTS = (300, 1000, 2000)
TIMEOUT = 3600

RUN = """
import gc, json, sys
from pathlib import Path
import mlx.core as mx
from mlxrun.loading import LoadOptions, load_model, open_model
from mlxrun.loading.dry_run import dry_run
from mlxrun.memory.headroom import give_back
from mlxrun.memory.machine import private_bytes
from mlxrun.memory.sequence import sequence_bytes
from mlxrun.ops.native import release
path, contexts, chunk, ready = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
opened = open_model(path)
checkpoint, recipe = opened.checkpoint, opened.recipe
seen = dry_run(checkpoint, recipe, opened.device)
def own():
    release()
    gc.collect()
    give_back()
    return private_bytes()
longest = max(contexts)
load_model(path, options=LoadOptions(context=longest, ready=ready, anyway=True))
kept = sum(512 * file.stat().st_blocks for file in ready.glob("*.ready.safetensors"))
before = own()
model = load_model(path, options=LoadOptions(context=longest, mapped=False, anyway=True))
found = {"weights": [seen.weights.total, kept, own() - before], "contexts": {}}
def prompt(tokens):
    sequence = model.new_sequence(longest)
    for start in range(0, tokens, chunk):
        rows = min(chunk, tokens - start)
        mx.eval(model(mx.arange(start, start + rows) % 1000, [(sequence, rows)]))
    return sequence
prompt(chunk)  # what kernels work in stays
for tokens in contexts:
    start, counted = own(), mx.get_active_memory()
    sequence = prompt(tokens)
    mx.eval([array for memory in sequence.layers if memory is not None for array in memory.arrays()])
    planned = sequence_bytes(recipe.decoder, tokens, seen.width, chunk, seen.keys)
    taken = own() - start
    found["contexts"][tokens] = [planned, taken, mx.get_active_memory() - counted]
    del sequence
print(json.dumps(found))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS)
    flags = parser.parse_args()
    if flags.models:
        for model in flags.models:
            told(model.name, measured(model, flags.contexts))
        return 0
    with tempfile.TemporaryDirectory(prefix="mlxrun-bench-") as scratch:
        for name, shape in (("dense", DENSE), ("experts", EXPERTS)):
            checkpoint(Path(scratch) / name, {**shape, "num_hidden_layers": flags.layers})
            told(name, measured(Path(scratch) / name, flags.contexts))
    return 0


def measured(model: Path, contexts: list[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlxrun-bench-") as ready:
        command = [sys.executable, "-c", RUN, str(model), json.dumps(list(contexts)), str(CHUNK), ready]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def told(name: str, found: dict[str, Any]) -> None:
    planned, kept, taken = found["weights"]
    print(
        f"{name}: weights planned {mb(planned)}, in the ready file {mb(kept)} ({off(planned, kept)}), "
        f"packed in memory {mb(taken)} ({off(planned, taken)})"
    )
    for tokens, (said, process, allocated) in found["contexts"].items():
        print(
            f"  keys and values of {tokens} tokens: planned {mb(said)}, the process took {mb(process)} "
            f"({off(said, process)}), MLX allocated {mb(allocated)} ({off(said, allocated)})"
        )


def mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def off(planned: int, taken: int) -> str:
    return f"{100 * (taken / planned - 1):+.1f}%"


# ---- checkpoints ----------------------------------------------------------------------------------


def checkpoint(folder: Path, shape: dict[str, Any]) -> None:
    load.checkpoint(folder, shape, layout(shape) if "num_experts" in shape else load.layout(shape))


def layout(shape: dict[str, Any]) -> Iterator[load.Tensor]:
    """As `load.layout`, with experts in place of every feed-forward."""
    experts, dim, hidden = shape["num_experts"], shape["hidden_size"], shape["moe_intermediate_size"]
    for tensor in load.layout(shape):
        if ".mlp." not in tensor[0]:
            yield tensor
    for number in range(shape["num_hidden_layers"]):
        place = f"model.layers.{number}.mlp"
        yield from load.quantized(f"{place}.gate", experts, dim)
        for name, out, width in (("gate", hidden, dim), ("up", hidden, dim), ("down", dim, hidden)):
            for part, dtype, extent, size, value in load.quantized(f"{place}.switch_mlp.{name}_proj", out, width):
                yield part, dtype, [experts, *extent], size, value


if __name__ == "__main__":
    sys.exit(main())
