"""The references in the form that the self-test ships: python -m tests.golden.shipped

The last row of each, and what is needed to draw its weights again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxrun.families import resolve
from mlxrun.selftest import families
from mlxrun.spec import DenseAndExperts, MoE

from .cases import CASES
from .checkpoint import reference

FILE = Path(families.__file__).with_name(families.DATA)
# every kind of mixer and feed-forward network that there is; `test_shipped.py` holds it
QUICK = (
    "apertus",
    "bert",
    "deepseek_v3",
    "falcon_h1",
    "gemma3",
    "gemma4_moe",
    "glm_moe_dsa",
    "gpt_oss",
    "jamba",
    "kimi_linear",
    "lfm2",
    "nemotron_h",
    "qwen3",
    "qwen3_next",
    "recurrent_gemma",
)


def manifest() -> Iterator[tuple[str, dict[str, Any], NDArray[np.float32]]]:
    for name in CASES:
        known = reference(name)
        layers = resolve(known.config, "hf").decoder.layers
        yield (
            name,
            {
                "seed": CASES[name].seed,
                "encoder": known.encoder,
                "mixture": any(isinstance(layer.ffn, MoE | DenseAndExperts) for layer in layers),
                "quick": name in QUICK,
                "prompt": known.prompt,
                "config": known.config,
                "tensors": known.tensors,
                "width": known.expected.shape[1],
            },
            known.expected[-1],
        )


def main() -> None:
    told, rows = {}, []
    for name, one, row in manifest():
        told[name] = one
        rows.append(row)
    text = np.frombuffer(json.dumps(told, separators=(",", ":")).encode(), np.uint8)
    np.savez_compressed(FILE, manifest=text, expected=np.concatenate(rows))
    print(f"{len(told)} models, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
