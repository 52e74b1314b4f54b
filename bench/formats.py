"""Real GGUF files and llama.cpp: the starter model requantized by its quantizer, and our token ids beside its own.

Needs llama-cpp-python: `pip install llama-cpp-python`, or PYTHONPATH to where it is. Without it this says so and ends
well. Each file is run by us in exact arithmetic, in float32 as the `gguf` package dequantizes it, and by llama.cpp,
which computes with activations of eight bits; `--all` takes every type and 500 tokens, which is some minutes on two
cores. "pure" types are forced on every matrix that they divide.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from random import Random

import gguf
import mlx.core as mx
import numpy as np

from mlxrun.convert.compare import compare
from mlxrun.convert.text import calibration
from mlxrun.loading import LoadOptions, load_model, open_model
from mlxrun.loading.model import Model
from mlxrun.loading.open import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.nn.params import AS_STORED, Forms
from mlxrun.ops.device import this_device
from mlxrun.ops.native import pack
from mlxrun.store import starter
from mlxrun.text.opening import gguf_tokenizer
from mlxrun.weights import apply_rules, open_checkpoint

try:
    import llama_cpp
except ImportError:
    print("bench/formats.py: llama-cpp-python is not installed, so nothing is compared with llama.cpp.")
    sys.exit(0)

TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q4_0", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "Q2_K pure")
FEW = ("Q6_K", "Q4_0")
TOKENS, FEW_TOKENS = 500, 64
STRINGS = 2000
PIECES = (
    *(
        "Hello",
        " world",
        "don't",
        " I'LL",
        "\n",
        "\n\n",
        "  ",
        "\t",
        " ",
        "123",
        "4567.89",
        "naïve",
        "日本語",
        "한국어",
    ),
    *(
        "🙂",
        "👩‍👩‍👧",
        "e\u0301",
        "def f(x):\n    return x",
        "<|im_start|>",
        "<|im_end|>",
        "</s>",
        "\u00a0",
        "\u200b",
        "—",
    ),
)


def quantized(source: Path, folder: Path, kind: str) -> Path:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.allow_requantize = True
    kind, parameters.pure = kind.removesuffix(" pure"), kind.endswith(" pure")
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    target = folder / f"{kind}.gguf"
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp could not write {kind}.")
    return target


def plain(path: Path) -> Model:
    """Every tensor in float32 as the `gguf` package dequantizes it; native kernels, where there are any, are as exact
    as MLX and much faster."""
    recipe = recipe_of(open_checkpoint(path))
    read = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    tensors = {name: mx.array(np.asarray(values, np.float32)) for name, values in read.items()}
    device = this_device("exact")
    forms = Forms(matrix=pack) if device.native else AS_STORED
    weights = apply_rules(recipe.rules, tensors)
    return Model(DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded, forms=forms))


def strings() -> Iterator[str]:
    random = Random(0)
    letters = [chr(c) for c in range(0x21, 0x3100) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co", "Cc")]
    for number in range(STRINGS):
        if number % 2:
            yield "".join(random.choices(PIECES, k=random.randint(1, 12)))
        else:
            yield "".join(random.choices([*letters, " ", "\n"], k=random.randint(1, 40)))


def same_ids(path: Path) -> None:
    theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ours = gguf_tokenizer(open_checkpoint(path).metadata)
    wrong = []
    for text in strings():
        for special in (True, False):
            if ours.encode(text, special=special) != theirs.tokenize(text.encode(), add_bos=False, special=special):
                wrong.append(text)
    print(f"token ids: {2 * STRINGS - len(wrong)} of {2 * STRINGS} as llama.cpp's", *map(repr, wrong[:5]), flush=True)


def their_perplexity(path: Path, ids: list[int]) -> float:
    model = llama_cpp.Llama(str(path), n_ctx=len(ids), n_batch=len(ids), logits_all=True, n_threads=2, verbose=False)
    model.eval(ids)
    logits = np.array(model.scores[: len(ids) - 1], np.float64)
    logits -= logits.max(-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(np.exp(-np.take_along_axis(logp, np.array(ids)[1:, None], -1).mean()))


def kinds_of(path: Path) -> str:
    found = {tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors} - {"F32"}
    return "+".join(sorted(found))


def judged(path: Path, count: int) -> str:
    ids = gguf_tokenizer(open_checkpoint(path).metadata).encode(calibration(), special=False)[:count]
    exact = LoadOptions(device=this_device("exact"))
    found = compare(load_model(path, options=exact), plain(path), ids)
    theirs = their_perplexity(path, ids)
    lost = max((error for _, _, error in open_model(path).checkpoint.losses()), default=0.0)
    return (
        f"{found.top1:.1%} | {found.kl:.0e} | {lost:.2%} | {found.perplexity:.2f} | {theirs:.2f} "
        f"({found.perplexity / theirs - 1:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every type, 500 tokens")
    every = parser.parse_args().all
    source = starter.fetch()
    same_ids(source)
    print("file | holds | same favourite | KL | weights off by | our perplexity | llama.cpp's")
    with tempfile.TemporaryDirectory() as folder:
        for kind in TYPES if every else FEW:
            path = quantized(source, Path(folder), kind)
            print(f"{kind} | {kinds_of(path)} | {judged(path, TOKENS if every else FEW_TOKENS)}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
