"""The wide sweep: products on the shapes of many models, every format and type, several orders, watched.

    python -m tests.kernels.metal.sweep [--outputs N]

N outputs of each matrix are computed (all of its K): rows do the same work, so a few hundred show it.
"""

from __future__ import annotations

import argparse
import sys

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.products import FewTile, MatrixTile, VectorTile, qmm, qmv, qmv_few

from .. import mslsim
from .made import BY16, FLOATS, FORMATS, close, random, weight, wide

# inner widths of SmolLM2, Qwen3 0.6B to 32B, Llama 3, Gemma 3, gpt-oss, Mixtral, DeepSeek
WIDTHS = (576, 1024, 1152, 1536, 2048, 2560, 2880, 3072, 4096, 5120, 5376, 7168, 9728, 14336)


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--outputs", type=int, default=67)
    outputs = options.parse_args(arguments).outputs
    count = 0
    with launch.made_by(mslsim.metal_kernel):
        for form in (*FORMATS, *BY16):
            for dtype in FLOATS:
                for width in (k for k in WIDTHS if k % form[2] == 0):
                    count += prove(form, dtype, width, outputs)
                    print(f"{form} {dtype} K = {width}: right", flush=True)
    print(f"{count} launches, each against float64")
    return 0


def prove(form: tuple[str, int, int], dtype: mx.Dtype, width: int, outputs: int) -> int:
    w = weight((outputs, width), form, dtype)
    exact = w.exact()
    forms = [(qmv, m, tile, 2.0) for m in (1, 2, 3, 4) for tile in (VectorTile(), VectorTile(2, 4, True))]
    forms += [(qmv_few, m, tile, 3.0) for m in (5, 8, 16) for tile in (FewTile(), FewTile(4, 8, True))]
    rounded = wide(mx.array(exact.astype(np.float32)).astype(dtype))
    for order, (make, m, tile, slack) in enumerate(forms):
        x = random((m, width), dtype, m)
        with mslsim.settings(order=order):
            close(make(x, w, tile), wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack)
    x = random((40, width), dtype, 9)
    for tile in (MatrixTile(), MatrixTile(64, 32)):
        with mslsim.settings(order=1):
            close(qmm(x, w, tile), wide(x) @ rounded.T, np.abs(wide(x)) @ np.abs(rounded.T), 16)
    return len(forms) + 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
