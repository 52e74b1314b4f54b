"""Part: what a plan says of a model's memory, beside what the process takes for it.

Weights are held against this process's own memory, keys and values against what MLX allocates, a whole prompt against
MLX's peak. A plan may promise too much memory and not too little.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlx.core as mx

from ..loading import LoadOptions, open_model
from ..loading.dry_run import dry_run
from ..loading.load import load_opened
from ..loading.options import ignore_progress
from ..memory.activations import prefill_bytes
from ..memory.sequence import sequence_bytes
from .held import MIB, held
from .made import Dimensions, write
from .notes import Notes

CHUNK, TOKENS = 256, 768
SPARE, SHARE = 24 * MIB, 1.15  # by which what is taken may exceed what was planned


def measure(notes: Notes) -> str:
    if notes.quick:
        shape = Dimensions(layers=4, dim=512, hidden=1536, heads=8, kv_heads=4, files=2)
    else:
        shape = Dimensions(layers=6, dim=768, hidden=3072, heads=12, kv_heads=4, vocab=4000, files=2)
    with tempfile.TemporaryDirectory(prefix="mlxrun-selftest-") as scratch:
        write(Path(scratch), shape)
        notes.begin("loading")
        opened = open_model(scratch, mapped=False)
        options = LoadOptions(context=2 * TOKENS, mapped=False, progress=ignore_progress, anyway=True)
        load_opened(opened, options)  # what only the first load takes
        seen, before = dry_run(opened.checkpoint, opened.recipe, opened.device), held()
        model = load_opened(opened, options)
        loaded = held()
        taken = max(loaded.since(before)["private"], loaded.since(before)["arrays"])
        beside(notes, "weights", seen.weights.total, taken)

        notes.begin("a prompt")
        decoder = opened.recipe.decoder
        mx.reset_peak_memory()
        memory = model.new_sequence(2 * TOKENS)
        for start in range(0, TOKENS, CHUNK):
            ids = mx.arange(start, start + CHUNK) % shape.vocab
            mx.eval(model(ids.astype(mx.int32), [(memory, CHUNK)]), memory.arrays())
        peak = mx.get_peak_memory() - loaded.arrays
        cache = sequence_bytes(decoder, TOKENS, seen.width, CHUNK, seen.keys)
        work = prefill_bytes(decoder, CHUNK, TOKENS, seen.width, opened.device.gpu)
        beside(notes, "keys_and_values", cache, held().arrays - loaded.arrays)
        beside(notes, "peak", cache + work, peak)
    weights = f"{taken / MIB:.0f} MiB of weights, {seen.weights.total / MIB:.0f} planned"
    return f"{weights}; {peak / MIB:.0f} MiB for a prompt, {(cache + work) / MIB:.0f} planned"


def beside(notes: Notes, name: str, planned: int, taken: int) -> None:
    said = f"{taken / MIB:.1f} MiB taken, {planned / MIB:.1f} planned"
    notes.check(name, taken <= SHARE * planned + SPARE, said, planned=planned, taken=taken)
