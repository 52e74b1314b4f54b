"""--quantize of the commands that load a model: the model itself, or a smaller copy of it made now and kept."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .steps import bar

if TYPE_CHECKING:
    from ..loading import OpenedModel
    from ..settings import Settings


def add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quantize", type=int, metavar="BITS", help="with weights of 2, 3, 4, 5, 6 or 8 bits; the copy is kept"
    )
    parser.add_argument(
        "--group", type=int, metavar="G", help="for --quantize: weights that share a scale (32, 64, 128)"
    )


def copy_of(opened: OpenedModel, flags: argparse.Namespace, settings: Settings) -> OpenedModel:
    """What shall be loaded of that model."""
    from ..core import RequestError

    if flags.quantize is None:
        if flags.group is not None:
            raise RequestError("--group is for --quantize BITS.")
        return opened
    from ..convert.cached import make_quantized_copy
    from ..convert.weight_layout import layout
    from ..loading import open_model

    how = layout(flags.quantize, flags.group, "affine")
    with bar("quantizing") as progress:
        copy = make_quantized_copy(opened.checkpoint, how, settings.quantized, progress=progress)
    waive = frozenset(flags.waive)
    return open_model(copy, waive=waive, mapped=not flags.no_map, device=opened.device)  # it says its own dialect
