"""Makes the references of families that transformers has not: `python -m tests.golden.make_mlx [CASE ...]`.

mlx-lm's class for the family computes them. It names its weights in its own way, so `authors` says how their authors
do; its converter must make of these exactly what the class has. Every weight is changed in turn to see that the output
depends on it. Knows nothing of torch and transformers.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from .case import Case, prompt
from .cases import CASES
from .checkpoint import Checkpoint
from .draw import draw, kind_of
from .keep import FELT, STEADY, store
from .mlx_dialect import loaded, module_of

MADE_WITH = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
EXPERTS = re.compile(r"\.switch_mlp\.(gate_proj|up_proj|down_proj)\.weight$")
# by model type: what else its converter renames, read backwards
AUTHORS: dict[str, tuple[tuple[str, str], ...]] = {
    "bailing_moe": ((r"\.gate\.gate_proj\.", ".gate."),),
}


def authors(case: Case, name: str, value: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """A weight of mlx-lm's class as its authors store it: experts apart."""
    for pattern, after in AUTHORS.get(case.model_type, ()):
        name = re.sub(pattern, after, name)
    if EXPERTS.search(name):
        yield from ((EXPERTS.sub(rf".experts.{e}.\1.weight", name), each) for e, each in enumerate(value))
    else:
        yield name, value


def output(model: nn.Module, case: Case) -> NDArray[np.float32]:
    """(tokens, vocabulary) logits."""
    return np.array(model(mx.array([prompt(case.tokens)]))[0])


def changed(model: nn.Module, case: Case, names: list[str], size: float) -> NDArray[np.float32]:
    """The output with those weights off by about `size` of themselves; they are put back."""
    weights = dict(tree_flatten(model.parameters()))
    mx.random.seed(0)
    model.load_weights([(n, weights[n] * (1 + size * mx.random.normal(weights[n].shape))) for n in names], strict=False)
    found = output(model, case)
    model.load_weights([(name, weights[name]) for name in names], strict=False)
    return found


def make(name: str) -> str:
    case = CASES[name]
    config = {"model_type": case.model_type, **case.config}
    module = module_of(config)
    model = module.Model(module.ModelArgs.from_dict(config))
    initial = [(n, np.array(v)) for n, v in tree_flatten(model.parameters())]
    stored = sorted(pair for n, v in initial for pair in authors(case, n, v))
    tensors = {n: (list(v.shape), kind_of(n, v, False, case.select_bias)) for n, v in stored}
    values = {tensor: draw(name, tensor, tuple(shape), kind, case.seed) for tensor, (shape, kind) in tensors.items()}
    model, _ = loaded(name, Checkpoint(config, values))
    reference, own = output(model, case), [n for n, _ in tree_flatten(model.parameters())]
    idle = [n for n in own if np.abs(changed(model, case, [n], 0.5) - reference).max() < FELT]
    if idle:
        raise ValueError(f"the output does not depend on {idle}")
    noise = float(np.abs(changed(model, case, own, 6e-8) - reference).max())
    if noise > STEADY:
        raise ValueError(f"rounding alone moves the output by {noise:.1e}; give the case another seed")
    store(name, case, MADE_WITH, config, tensors, reference)
    return f"{len(tensors)} tensors, outputs to {np.abs(reference).max():.1f}, rounding {noise:.1e}"


def main(names: list[str]) -> int:
    mx.set_default_device(mx.cpu)
    ours: dict[str, Any] = {name: case for name, case in CASES.items() if case.of == "mlx-lm"}
    unknown = [name for name in names if name not in ours]
    if unknown:
        print(f"No such case: {', '.join(unknown)}. Known are {', '.join(ours)}.", file=sys.stderr)
        return 2
    for name in names or ours:
        try:
            print(f"{name}: {make(name)}", flush=True)
        except ValueError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
