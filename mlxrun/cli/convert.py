"""mlxrun convert MODEL -o DIR: the same model in MLX's files, smaller if asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options
from .steps import bar
from .terminal import aside, forgive_encodings

HELP = "write a model in MLX's format, quantized if asked"
DTYPES = ("float16", "bfloat16", "float32")
MODES = ("affine", "mxfp4", "nvfp4", "mxfp8")


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    parser.add_argument("--quantize", type=int, metavar="BITS", help="2, 3, 4, 5, 6 or 8 bits a weight")
    parser.add_argument("--group", type=int, metavar="G", help="weights that share a scale: 32, 64 or 128")
    parser.add_argument("--mode", choices=MODES, default="affine", help="affine, or one of the float formats")
    parser.add_argument("--dtype", choices=DTYPES, help="of scales and of what is not quantized; as stored if not said")
    parser.add_argument(
        "--dialect", choices=("hf", "mlx"), help="how the weights are laid out, where files say it wrongly"
    )


def main(flags: argparse.Namespace) -> int:
    import mlx.core as mx

    from ..convert.folder import convert_folder
    from ..convert.layouts import Wanted, layout
    from ..store.resolve import resolve
    from ..weights import open_checkpoint

    forgive_encodings()
    wanted = None
    if flags.quantize or flags.group or flags.mode != "affine":
        usual = layout(flags.quantize, flags.group, flags.mode)
        wanted = Wanted(usual, lambda module, shape: usual)
    checkpoint = open_checkpoint(resolve(flags.model), dialect=flags.dialect)
    with bar("writing") as progress:
        dtype = getattr(mx, flags.dtype) if flags.dtype else None
        convert_folder(checkpoint, flags.out, wanted=wanted, dtype=dtype, progress=progress)
    aside(f"{flags.out} is written, {sum(f.stat().st_size for f in flags.out.iterdir()) / 1e6:,.1f} MB.")
    return 0
