"""From a folder on disk to the first token: mlxrun beside mlx-lm, and llama.cpp where its program is named.

    python -m bench.load [--layers 36] [--runs 3] [--load-only] [--keep FOLDER] [--llama-cli PROGRAM --gguf FILE]

The checkpoint has the shape of Qwen3-8B at 4 bits (groups of 64) and random weights; with all 36 layers it takes
4.6 GB of disk, and as much again for what mlxrun keeps ready. It is deleted afterwards, unless --keep names a folder.
Every run is a process of its own, the file's pages are in memory beforehand, and time runs from after the imports to
the first token of an eight-token prompt being there. Printed are medians of the runs; of mlxrun also the first start,
which makes the ready file, what a process has of its own (smaps), and what a second one adds while the first runs.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHAPE: dict[str, Any] = {  # Qwen/Qwen3-8B
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
    "quantization": {"group_size": 64, "bits": 4},
}
PROMPT = [1, 2, 3, 4, 5, 6, 7, 8]
TIMEOUT = 1800
ONE_BF16, SMALL_BF16, BIAS_BF16 = 0x3F80, 0x3A80, 0xBC00  # 1, 2^-10, -2^-7: codes from -8 to 7

OURS = """
import json, sys, time
from pathlib import Path
import mlx.core as mx
from mlxrun.loading import LoadOptions, load_model
from mlxrun.memory.machine import private_bytes
before, began = private_bytes(), time.perf_counter()
model = load_model(sys.argv[1], options=LoadOptions(ready=Path(sys.argv[2]), context=4096))
loaded = time.perf_counter()
sequence, prompt = model.new_sequence(), json.loads(sys.argv[3])
hidden = model(mx.array(prompt, mx.int32), [(sequence, len(prompt))])
token = mx.argmax(model.logits(hidden[-1:]), axis=-1)
mx.eval(token)
done = time.perf_counter()
own = private_bytes() - before
maps, ready = {}, False
for line in open("/proc/self/smaps"):
    if line.split(" ", 1)[0].count("-") == 1 and ":" not in line.split(" ", 1)[0]:
        ready = line.rstrip().endswith(".ready.safetensors")
    elif ready and line.endswith("kB\\n"):
        name, number, _ = line.split()
        maps[name.rstrip(":")] = maps.get(name.rstrip(":"), 0) + 1024 * int(number)
print(json.dumps({"load": loaded - began, "first": done - began, "own": own, "maps": maps, "token": token.item(),
                  "notes": model.notes}), flush=True)
if len(sys.argv) > 4:
    sys.stdin.readline()
"""
THEIRS = """
import json, sys, time
from pathlib import Path
import mlx.core as mx
from mlx_lm.utils import load_model
began = time.perf_counter()
model, _ = load_model(Path(sys.argv[1]))
loaded = time.perf_counter()
if len(sys.argv) > 4:
    print(json.dumps({"load": loaded - began}))
    raise SystemExit
token = mx.argmax(model(mx.array([json.loads(sys.argv[3])]))[:, -1], axis=-1)
mx.eval(token)
print(json.dumps({"load": loaded - began, "first": time.perf_counter() - began, "token": token.item()}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--vocab", type=int, default=SHAPE["vocab_size"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--load-only", action="store_true", help="of mlx-lm: on a CPU its first token takes minutes")
    parser.add_argument("--keep", type=Path, help="where the checkpoint is made, and stays")
    parser.add_argument("--llama-cli", help="llama.cpp's program; it needs --gguf, a model of the same shape")
    parser.add_argument("--gguf", type=Path)
    flags = parser.parse_args()
    if flags.keep is not None:
        flags.keep.mkdir(parents=True, exist_ok=True)
        return run(flags.keep, flags)
    with tempfile.TemporaryDirectory(prefix="mlxrun-bench-", dir=Path.cwd() / "build") as scratch:
        return run(Path(scratch), flags)


def run(folder: Path, flags: argparse.Namespace) -> int:
    shape = {**SHAPE, "num_hidden_layers": flags.layers, "vocab_size": flags.vocab}
    size = checkpoint(folder / "model", shape)
    print(f"{size / 1e9:.2f} GB of weights, {flags.layers} layers; time to the first token, medians of {flags.runs}")
    ready = folder / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    first = measured(OURS, folder / "model", ready)
    print(f"mlxrun, first start (packs and keeps) {first['first']:8.2f} s {' '.join(first['notes'])}")
    ours = [measured(OURS, folder / "model", ready) for _ in range(flags.runs)]
    told("mlxrun", ours)
    only = ["load"] if flags.load_only else []
    theirs = [measured(THEIRS, folder / "model", ready, *only) for _ in range(flags.runs)]
    told("mlx-lm", theirs)
    for key in ("load",) if flags.load_only else ("load", "first"):
        ratio = statistics.median(r[key] for r in ours) / statistics.median(r[key] for r in theirs)
        print(f"mlxrun takes {ratio:.3f} of mlx-lm's time ({key}; the bar: 0.2)")
    memory(ours[-1], size)
    second_process(folder / "model", ready)
    if flags.llama_cli and flags.gguf:
        llama(flags.llama_cli, flags.gguf, flags.runs)
    return 0


def told(name: str, runs: list[dict[str, Any]]) -> None:
    line = f"{name:8} load {statistics.median(r['load'] for r in runs):8.2f} s"
    if "first" in runs[0]:
        first = statistics.median(r["first"] for r in runs)
        line += f"   first token after {first:8.2f} s   (token {runs[0]['token']})"
    print(line)


def memory(run: dict[str, Any], size: int) -> None:
    maps = run["maps"]
    anonymous = maps.get("Anonymous", 0)
    print(
        f"mapped weights: {maps.get('Rss', 0) / 1e9:.2f} GB resident, {anonymous / 1e6:.1f} MB anonymous "
        f"({100 * anonymous / size:.2f}% of their size; the bar: 2%)"
    )
    print(f"the process's own memory, keys and activations included: {run['own'] / 1e6:.0f} MB")


def second_process(model: Path, ready: Path) -> None:
    """What it adds, while another runs the same model: its own memory beside its half of the shared pages."""
    command = [sys.executable, "-c", OURS, str(model), str(ready), json.dumps(PROMPT), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        one.stdout.readline()
        two = measured(OURS, model, ready)
        one.communicate("\n")
    maps = two["maps"]
    private = two["own"] + maps.get("Private_Clean", 0) + maps.get("Private_Dirty", 0)
    print(
        f"a second process adds {private / 1e6:.0f} MB, {100 * private / max(1, maps.get('Rss', 0)):.1f}% of the "
        f"weights (the bar: 10%); it shares {maps.get('Shared_Clean', 0) / 1e9:.2f} GB"
    )


def measured(code: str, model: Path, ready: Path, *more: str) -> dict[str, Any]:
    warm(model)
    command = [sys.executable, "-c", code, str(model), str(ready), json.dumps(PROMPT), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def warm(model: Path) -> None:
    with (model / "model.safetensors").open("rb") as file:
        while file.read(64 << 20):
            pass


def llama(program: str, gguf: Path, runs: int) -> None:
    """Its whole run for one token, program start included: it tells no other time."""
    command = [program, "-m", str(gguf), "-n", "1", "-p", "a b c d e f g h", "--no-warmup", "-no-cnv"]
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True)
        times.append(time.perf_counter() - began)
    print(f"llama.cpp, its whole run for one token {statistics.median(times):8.2f} s")


# ---- the checkpoint -----------------------------------------------------------------------------


Tensor = tuple[str, str, list[int], int, int | None]  # name, type, shape, bytes a value, the value; None: random


def checkpoint(folder: Path, shape: dict[str, Any], tensors: Iterable[Tensor] | None = None) -> int:
    """Bytes of its tensors; what is there already is taken. `tensors` None: those of `layout`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = list(tensors or layout(shape))
    size = sum(math.prod(extent) * width for _, _, extent, width, _ in tensors)
    target = folder / "model.safetensors"
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, dtype, extent, width, _ in tensors:
        header[name] = {"dtype": dtype, "shape": extent, "data_offsets": [end, end + math.prod(extent) * width]}
        end += math.prod(extent) * width
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    if target.exists() and target.stat().st_size == 8 + len(raw) + size:
        return size
    free = shutil.disk_usage(folder).free
    if free < 2.5 * size:
        raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free; this takes {2.5 * size / 1e9:.0f} GB.")
    noise = np.random.default_rng(0)
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for _, _, extent, width, value in tensors:
            count = math.prod(extent)
            file.write(noise.bytes(count * width) if value is None else np.full(count, value, np.uint16).tobytes())
    return size


def layout(shape: dict[str, Any]) -> Iterator[Tensor]:
    """In MLX's layout."""
    dim, head = shape["hidden_size"], shape["head_dim"]
    q, kv, hidden = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head, shape["intermediate_size"]
    for name in ("model.embed_tokens", "lm_head"):
        yield from quantized(name, shape["vocab_size"], dim)
    yield "model.norm.weight", "BF16", [dim], 2, ONE_BF16
    for number in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for norm, width in (
            ("input_layernorm", dim),
            ("post_attention_layernorm", dim),
            ("self_attn.q_norm", head),
            ("self_attn.k_norm", head),
        ):
            yield f"{layer}.{norm}.weight", "BF16", [width], 2, ONE_BF16
        for name, out, width in (("q", q, dim), ("k", kv, dim), ("v", kv, dim), ("o", dim, q)):
            yield from quantized(f"{layer}.self_attn.{name}_proj", out, width)
        for name, out, width in (("gate", hidden, dim), ("up", hidden, dim), ("down", dim, hidden)):
            yield from quantized(f"{layer}.mlp.{name}_proj", out, width)


def quantized(name: str, out: int, width: int) -> Iterator[Tensor]:
    yield f"{name}.weight", "U32", [out, width // 8], 4, None
    yield f"{name}.scales", "BF16", [out, width // 64], 2, SMALL_BF16
    yield f"{name}.biases", "BF16", [out, width // 64], 2, BIAS_BF16


if __name__ == "__main__":
    sys.exit(main())
