"""Bits a weight against KL divergence: our mixed recipe, plain affine quantization, and mlx-lm's mixed predicates.

The model is the starter, SmolLM2-135M, as its Q4_1 file dequantizes: what was lost when that file was made is lost for
all alike. All have groups of 64; groups of 32 with 4 bits would give the file back as it is. Sensitivities are measured
on the package's calibration text, divergences on quant.txt: Dickens (1859), Conan Doyle (1891), and prose, code and
arithmetic of this project. The judge runs dequantized weights in float32. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxrun.compat import quiet_import
from mlxrun.convert.folder import plain_weight, source
from mlxrun.convert.mixed import divergence, measure_modules, share_out
from mlxrun.convert.names import Named, named
from mlxrun.convert.text import calibration
from mlxrun.convert.trial import trial_of
from mlxrun.convert.weight_layout import quantize
from mlxrun.store import starter
from mlxrun.text.opening import gguf_tokenizer
from mlxrun.weights import open_checkpoint
from mlxrun.weights.quantized import Layout

TEXT = Path(__file__).with_name("quant.txt")
GROUP = 64
PLAIN = (3, 4, 5, 6)  # with 2 or 8 for all, the least and the most there is, a recipe has nothing to choose
RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
SCALES = 32  # bits of a scale and a bias, in half precision
Choice = Mapping[str, Layout]


def size_of(choice: Choice, modules: Mapping[str, mx.array]) -> float:
    """Bits a weight, over all that is quantized."""
    bits = sum(weight.size * (choice[name].bits + SCALES / choice[name].group) for name, weight in modules.items())
    return bits / sum(weight.size for weight in modules.values())


class Judge:
    def __init__(self, names: Named, modules: Mapping[str, mx.array], ids: list[int]) -> None:
        self._trial, self._ids, self._modules = trial_of(names), ids, modules
        self._reference = self._trial.logp(ids)

    def kl(self, choice: Choice) -> tuple[float, float]:
        """(nats a token, share of tokens with the same favourite)."""
        coarse = {
            name: quantize(weight.astype(mx.float16), choice[name]).dequantize(mx.float32)
            for name, weight in self._modules.items()
        }
        other = self._trial.logp(self._ids, coarse)
        same = (self._reference.argmax(axis=-1) == other.argmax(axis=-1)).astype(mx.float32).mean()
        return divergence(self._reference, other), float(np.array(same))


def predicate(recipe: str, model: Any) -> Callable[[str], Layout]:
    with quiet_import():
        from mlx_lm.convert import mixed_quant_predicate_builder
    said = mixed_quant_predicate_builder(recipe, model, GROUP)

    def layout(name: str) -> Layout:
        found = said(name, None)
        assert isinstance(found, dict)
        return Layout("affine", found["bits"], found["group_size"])

    return layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=300, help="of quant.txt, that divergences are measured on")
    parser.add_argument("--measure", type=int, default=64, help="of the calibration text, that recipes are made from")
    flags = parser.parse_args()
    path = starter.fetch()
    tokenizer = gguf_tokenizer(open_checkpoint(path).metadata)
    weights, config = source(open_checkpoint(path))
    names = named({name: plain_weight(weight, mx.float32) for name, weight in weights.items()}, config)
    modules = {name: names.tensors[f"{name}.weight"] for name, advice in names.advice.items() if advice is not False}
    table = measure_modules(names, modules, tokenizer.encode(calibration(), special=False)[: flags.measure])
    judge = Judge(names, modules, tokenizer.encode(TEXT.read_text(encoding="utf-8"), special=False)[: flags.tokens])
    print("how | bits a weight | KL, nats a token | same favourite | ours at that size: KL | same favourite")

    def row(how: str, choice: Choice) -> None:
        size, found = size_of(choice, modules), judge.kl(choice)
        ours = share_out(table, size * sum(weight.size for weight in modules.values()))
        best = judge.kl(ours)
        print(
            f"{how} | {size:.2f} | {found[0]:.4f} | {found[1]:.1%} | {best[0]:.4f} ({size_of(ours, modules):.2f} bits)"
            f" | {best[1]:.1%} | {'below' if best[0] < found[0] else 'NOT BELOW'}",
            flush=True,
        )

    for bits in PLAIN:
        row(f"affine {bits}", dict.fromkeys(modules, Layout("affine", bits, GROUP)))
    for recipe in RECIPES:
        chosen = predicate(recipe, names.model)
        row(f"mlx-lm {recipe}", {name: chosen(name) for name in modules})


if __name__ == "__main__":
    main()
