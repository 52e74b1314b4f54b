"""GGUF files that we write, in llama.cpp: the starter model unpacked to a folder, then written in every type.

Needs llama-cpp-python: `pip install llama-cpp-python`, or PYTHONPATH to where it is. Without it this says so and ends
well. Each file is read again by us, in exact arithmetic, and by llama.cpp, which computes with activations of eight
bits where weights are quantized: ids of random strings, favourite tokens on the calibration text, a greedy answer.
Then a tiny checkpoint of random weights for each family that can be written, in F16, where favourites are the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxrun.convert.compare import run
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.text import calibration
from mlxrun.convert.to_gguf import to_gguf
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.store import starter
from mlxrun.text.opening import gguf_tokenizer
from mlxrun.weights import open_checkpoint

try:
    import llama_cpp
except ImportError:
    print("bench/written.py: llama-cpp-python is not installed, so nothing is compared with llama.cpp.")
    sys.exit(0)

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from formats import same_ids  # noqa: E402  beside this file

from tests.golden.checkpoint import reference  # noqa: E402  at the repository's top
from tests.unit.convert.writable import CASES, folder_of  # noqa: E402  at the repository's top

KINDS = ("F16", "Q8_0", "Q4_0", "Q4_1")
ELSEWHERE = ("phi3_longrope_short", "bert")  # its sessions are too long for the first; the second has no favourites
PROMPT = "The capital of France is Paris. The capital of Italy is"
TOKENS, ANSWER = 120, 24
EXACT = LoadOptions(device=this_device("exact"))
CONTEXT = 128  # a session of llama.cpp has at least this many


@llama_cpp.llama_log_callback
def quiet(level: int, text: bytes, data: object) -> None:
    """Only what we ask for."""


def ours(path: Path, ids: list[int]) -> np.ndarray:
    model = load_model(path, options=EXACT)
    return np.array(model.logits(run(model, mx.array(ids, mx.int32))).astype(mx.float32))


def theirs(path: Path, ids: list[int]) -> np.ndarray:
    model = llama_cpp.Llama(str(path), n_ctx=max(CONTEXT, len(ids)), logits_all=True, n_threads=2, verbose=False)
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def our_answer(path: Path, ids: list[int]) -> list[int]:
    model, found = load_model(path, options=EXACT), list(ids)
    for _ in range(ANSWER):
        hidden = run(model, mx.array(found, mx.int32))
        found.append(int(model.logits(hidden[-1:]).argmax()))
    return found[len(ids) :]


def their_answer(path: Path, ids: list[int]) -> list[int]:
    model = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_threads=2, verbose=False)
    tokens = model.generate(ids, temp=0.0)
    return [next(tokens) for _ in range(ANSWER)]


def starter_in(kind: str, folder: Path, target: Path) -> None:
    to_gguf(open_checkpoint(folder), target, kind)
    if kind == KINDS[0]:
        same_ids(target)
    tokenizer = gguf_tokenizer(open_checkpoint(target).metadata)
    ids = tokenizer.encode(calibration(), special=False)[:TOKENS]
    same = (ours(target, ids).argmax(-1) == theirs(target, ids).argmax(-1)).mean()
    asked = tokenizer.encode(PROMPT, special=False)
    mine, other = our_answer(target, asked), their_answer(target, asked)
    print(f"{kind} | {same:.1%} | {'the same' if mine == other else tokenizer.decode(other)!r} |", end=" ")
    print(repr(tokenizer.decode(mine)), flush=True)


def tiny(name: str, folder: Path) -> None:
    place, file = folder_of(name, folder / name), folder / f"{name}.gguf"
    to_gguf(open_checkpoint(place), file, "F16")
    ids = list(reference(name).prompt)
    mine, other = ours(place, ids), theirs(file, ids)
    other_way = np.flatnonzero(mine.argmax(-1) != other.argmax(-1))
    gaps = [mine[i].max() - mine[i, other[i].argmax()] for i in other_way]
    same = f"{1 - len(gaps) / len(ids):.1%}" + (f" (else by a lead of {max(gaps):.1e})" if gaps else "")
    print(f"{name} | {same} | {np.abs(mine - other).max():.1e} of {np.abs(mine).max():.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only the tiny checkpoints")
    only = parser.parse_args().tiny
    llama_cpp.llama_log_set(quiet, None)
    with tempfile.TemporaryDirectory() as scratch:
        if not only:
            convert_folder(open_checkpoint(starter.fetch()), Path(scratch, "starter"))
            print("file | same favourite | greedy answer | ours")
            for kind in KINDS:
                starter_in(kind, Path(scratch, "starter"), Path(scratch, f"{kind}.gguf"))
        print("checkpoint | same favourite | logits off by at most")
        for name in CASES:
            if name not in ELSEWHERE:
                tiny(name, Path(scratch))


if __name__ == "__main__":
    main()
