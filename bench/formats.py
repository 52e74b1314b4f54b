"""Real GGUF files and llama.cpp: the starter model requantized by its quantizer, and our token ids beside its own.

Needs llama-cpp-python: `pip install llama-cpp-python`, or PYTHONPATH to where it is. Without it this says so and ends
well. Each type is run by us and, as the `gguf` package dequantizes the same file, in float32; `--all` takes every type
and 400 tokens, which is half an hour on two cores.
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
from mlxrun.engine.load import load_model, recipe_of
from mlxrun.engine.model import Model
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops.native import exactly
from mlxrun.store import starter
from mlxrun.text.tokenizer import Tokenizer
from mlxrun.weights import apply_rules, open_checkpoint

try:
    import llama_cpp
except ImportError:
    print("bench/formats.py: llama-cpp-python is not installed, so nothing is compared with llama.cpp.")
    sys.exit(0)

TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q4_0", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS")
FEW = ("Q6_K", "IQ4_XS")
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
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    target = folder / f"{kind}.gguf"
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp could not write {kind}.")
    return target


def plain(path: Path) -> Model:
    """Every tensor as the `gguf` package dequantizes it."""
    recipe = recipe_of(open_checkpoint(path))
    read = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    tensors = {name: mx.array(np.asarray(values, np.float32)) for name, values in read.items()}
    return Model(DecoderModel(recipe.decoder, apply_rules(recipe.rules, tensors), fold_offsets=not recipe.folded))


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
    ours = Tokenizer.from_gguf(open_checkpoint(path).metadata)
    wrong = []
    for text in strings():
        for special in (True, False):
            if ours.encode(text, special=special) != theirs.tokenize(text.encode(), add_bos=False, special=special):
                wrong.append(text)
    print(f"token ids: {2 * STRINGS - len(wrong)} of {2 * STRINGS} as llama.cpp's", *map(repr, wrong[:5]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every type, 400 tokens")
    every = parser.parse_args().all
    source = starter.fetch()
    same_ids(source)
    with tempfile.TemporaryDirectory() as folder:
        for kind in TYPES if every else FEW:
            path = quantized(source, Path(folder), kind)
            ids = Tokenizer.from_gguf(open_checkpoint(path).metadata).encode(calibration(), special=False)
            with exactly():
                found = compare(load_model(path), plain(path), ids[: 400 if every else 64])
            lost = max((error for _, _, error in open_checkpoint(path).losses()), default=0.0)
            print(f"{kind:8} top-1 {found.top1:7.2%}  KL {found.kl:.1e}  weights off by {lost:.2%}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
