"""mlxrun convert MODEL -o DIR: the same model in MLX's files, smaller if asked; -o FILE.gguf: in one GGUF file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import options
from .steps import bar
from .terminal import aside

if TYPE_CHECKING:
    import mlx.core as mx

    from ..convert.weight_layout import Wanted
    from ..weights import Checkpoint

TOKENS = 256  # of the calibration text, that sensitivity is measured on
HELP = "write a model in MLX's format, quantized if asked, or as a GGUF file"
DTYPES = ("float16", "bfloat16", "float32")
GGUF = ("F16", "Q8_0", "Q4_0", "Q4_1")
METHODS = ("gptq", "awq", "dwq")
MODES = ("affine", "mxfp4", "nvfp4", "mxfp8")


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="a folder (or .gguf file) that is not there yet"
    )
    parser.add_argument(
        "--adapter", type=Path, metavar="PATH", help="with this LoRA or DoRA adapter in its weights, for good"
    )
    parser.add_argument("--quantize", type=int, metavar="BITS", help="2, 3, 4, 5, 6 or 8 bits a weight")
    parser.add_argument("--group", type=int, metavar="G", help="weights that share a scale: 32, 64 or 128")
    parser.add_argument(
        "--recipe", choices=("mixed", "uniform"), help="mixed: bits by measured sensitivity; uniform: all the same"
    )
    parser.add_argument("--method", choices=METHODS, help="quantize by mlx-lm's GPTQ, AWQ or DWQ, on a text")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="for --recipe and --method: another text than the one carried here",
    )
    parser.add_argument("--bits", type=float, metavar="B", help="for --recipe: bits a weight on average, such as 4.3")
    parser.add_argument("--fit", metavar="SIZE", help="for --recipe: bytes of all weights, such as 16GB or 900MB")
    parser.add_argument("--mode", choices=MODES, default="affine", help="affine, or one of the float formats")
    parser.add_argument("--gguf", choices=GGUF, help="for -o FILE.gguf: the type of its matrices; F16 if not said")
    parser.add_argument("--dtype", choices=DTYPES, help="of scales and of what is not quantized; as stored if not said")
    parser.add_argument(
        "--dialect", choices=("hf", "mlx"), help="how the weights are laid out, where files say it wrongly"
    )


def main(flags: argparse.Namespace) -> int:
    import mlx.core as mx

    from ..convert.folder import convert_folder
    from ..convert.fuse import fused_with
    from ..convert.weight_layout import everywhere, layout, sparing
    from ..core import RequestError
    from ..store.resolve import resolve
    from ..weights import open_checkpoint

    path = resolve(flags.model)
    into_gguf = flags.gguf or flags.out.suffix == ".gguf"
    anew = bool(into_gguf or flags.recipe or flags.quantize or flags.mode != "affine")
    if flags.adapter is not None and (into_gguf or flags.method or flags.recipe == "mixed"):
        raise RequestError(
            "--adapter goes with --quantize, --mode and --dtype: for a .gguf file, --method or --recipe mixed convert "
            "what it writes once more."
        )
    checkpoint = open_checkpoint(path, flags.dialect).read_as("fine" if anew else "mlx")
    dtype = getattr(mx, flags.dtype) if flags.dtype else None
    if into_gguf:
        return gguf_file(checkpoint, flags)
    if flags.calibration is not None and not (flags.recipe or flags.method):
        raise RequestError("--calibration is for --recipe and --method; nothing else looks at a text.")
    if flags.group and not (flags.quantize or flags.recipe or flags.method or flags.mode != "affine"):
        raise RequestError("--group is for --quantize BITS, --mode and --method; alone it does not say how many bits.")
    wanted = None
    if flags.method:
        return by_method(checkpoint, flags, dtype)
    if flags.recipe == "mixed":
        wanted = choose_layouts(checkpoint, flags, dtype)
    elif flags.bits is not None or flags.fit is not None:
        raise RequestError("--bits and --fit are for --recipe mixed; --quantize N says the bits itself.")
    elif flags.quantize or flags.mode != "affine":
        usual = layout(flags.quantize, flags.group, flags.mode)
        wanted = everywhere(usual) if flags.recipe else sparing(usual, keep=flags.group is None)
    if flags.recipe and wanted is None:
        raise RequestError("--recipe uniform is for --quantize BITS or --mode.")
    fused = None if flags.adapter is None else fused_with(checkpoint, options.at_home(flags.adapter))
    with bar("writing") as progress:
        convert_folder(checkpoint, flags.out, wanted=wanted, dtype=dtype, progress=progress, fused=fused)
    tell(checkpoint, flags)
    if wanted is not None or (fused is not None and fused.requantized):
        measure(checkpoint.path, flags)
    return 0


def measure(original: Path, flags: argparse.Namespace) -> None:
    from ..loading import open_model
    from ..ops.device import this_device
    from ..spec import ModelError
    from .quantize import tell_loss

    device = this_device("exact")
    try:
        model, copy = open_model(original, dialect=flags.dialect, device=device), open_model(flags.out, device=device)
        tell_loss(model, copy, flags.adapter and options.at_home(flags.adapter))
    except ModelError as error:
        aside(f"What this costs was not measured: {error}")


def tell(checkpoint: Checkpoint, flags: argparse.Namespace) -> None:
    from ..convert.left_behind import left_behind
    from ..loading import open_model
    from ..spec import ModelError

    size = sum(file.stat().st_size for file in flags.out.iterdir())
    aside(f"{flags.out} is written, {size / 1e6:,.1f} MB.")
    try:
        lost = left_behind(open_model(checkpoint.path, dialect=flags.dialect).recipe, checkpoint.shapes)
    except ModelError:  # mlx-lm's class alone knows what this model is
        return
    if lost:
        aside(f"It is without {' and '.join(lost)}: mlx-lm's files have no place for that.")


def by_method(checkpoint: Checkpoint, flags: argparse.Namespace, dtype: mx.Dtype | None) -> int:
    """Quantized by mlx-lm's function of that name."""
    from ..convert.calibrated import calibrate
    from ..convert.folder import convert_folder
    from ..convert.weight_layout import layout
    from ..core import RequestError

    if flags.recipe or flags.bits is not None or flags.fit is not None or flags.mode != "affine":
        raise RequestError("--method goes with --quantize, --group, --dtype and --calibration only.")
    how, ids = layout(flags.quantize, flags.group, "affine"), text_of(checkpoint, flags)
    with bar(flags.method) as progress:
        making = calibrate(flags.method, ids, how, dtype=dtype, progress=progress, told=aside)
        convert_folder(checkpoint, flags.out, by=making)
    tell(checkpoint, flags)
    return 0


def text_of(checkpoint: Checkpoint, flags: argparse.Namespace) -> list[int]:
    """The calibration text as token ids."""
    from ..assistant import tokenizer_of
    from ..convert.text import calibration, read_text

    text = calibration() if flags.calibration is None else read_text(flags.calibration)
    return tokenizer_of(checkpoint).encode(text, special=False)


def gguf_file(checkpoint: Checkpoint, flags: argparse.Namespace) -> int:
    from ..convert.to_gguf import to_gguf
    from ..core import RequestError

    others = (flags.quantize, flags.group, flags.recipe, flags.dtype, flags.bits, flags.fit, flags.method)
    if any((*others, flags.mode != "affine")):
        raise RequestError("--gguf says all about a .gguf file; leave out the flags of MLX's format.")
    if flags.out.suffix != ".gguf":
        raise RequestError(f"With --gguf the file to write must end in .gguf; {flags.out} does not.")
    with bar("writing") as progress:
        to_gguf(checkpoint, flags.out, flags.gguf or GGUF[0], progress)
    aside(f"{flags.out} is written, {flags.out.stat().st_size / 1e6:,.1f} MB.")
    return 0


def choose_layouts(checkpoint: Checkpoint, flags: argparse.Namespace, dtype: mx.Dtype | None) -> Wanted:
    """Bits for each module under the budget that flags name."""
    from ..convert.mixed import choose_mixed
    from ..core import RequestError
    from ..settings import bytes_of
    from ..weights.mapped import believed

    if flags.quantize or flags.group or flags.mode != "affine":
        raise RequestError("--recipe mixed chooses bits itself; leave out --quantize, --group and --mode.")
    if (flags.bits is None) == (flags.fit is None):
        raise RequestError("--recipe mixed needs either --bits or --fit.")
    budget = None if flags.fit is None else bytes_of(flags.fit)
    if flags.fit is not None and budget is None:
        raise RequestError(f"--fit must be a size such as 16GB, not {flags.fit!r}.")
    ids = text_of(checkpoint, flags)[:TOKENS]
    with bar("measuring modules") as progress, believed():
        return choose_mixed(checkpoint, ids, bits=flags.bits, file_bytes=budget, dtype=dtype, progress=progress)
