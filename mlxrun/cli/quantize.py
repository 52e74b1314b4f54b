"""--quantize of the commands that load a model: the model itself, or a smaller copy of it made now and kept."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..spec import ModelError
from .steps import bar
from .terminal import aside, say

if TYPE_CHECKING:
    from pathlib import Path

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
    from ..convert import loss
    from ..convert.cached import make_quantized_copy
    from ..convert.weight_layout import layout, sparing
    from ..loading import open_model

    wanted = sparing(layout(flags.quantize, flags.group, "affine"), keep=flags.group is None)
    with bar("quantizing") as progress:
        place = make_quantized_copy(opened.checkpoint, wanted, settings.quantized, progress=progress)
    waive = frozenset(flags.waive)  # the copy says its own dialect
    copy = open_model(place, waive=waive, mapped=not flags.no_map, device=opened.device)
    lost = loss.kept(place)
    if lost is None:
        tell_loss(opened, copy)
    elif lost.kl >= loss.MUCH:
        aside(str(lost))
    return copy


def tell_loss(opened: OpenedModel, copy: OpenedModel, adapter: Path | None = None) -> None:
    """Measured now, and kept beside the copy. `adapter`: that the copy has in it, and the model beside it."""
    from ..assistant import tokenizer_of
    from ..convert import loss
    from ..convert.text import calibration

    aside("Measuring what the copy has lost ...")
    try:
        ids = tokenizer_of(opened.checkpoint).encode(calibration(), special=False)
        found = loss.measure(opened, copy, ids, adapter)
    except ModelError as error:
        aside(f"What this costs was not measured: {error}")
        return
    loss.keep(found, copy.path)
    (say if found.kl >= loss.MUCH else aside)(str(found))
