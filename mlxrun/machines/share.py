"""What a machine does with its share of a model: says what it is, loads it, and how much room that leaves.

The same for the first machine and for those who follow.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import replace

import mlx.core as mx

from .. import gpu
from ..cache.sequence import SequenceCache
from ..loading.load import load_opened
from ..loading.model import Model
from ..loading.open import OpenedModel
from ..loading.options import LoadOptions
from ..memory.here import this_machine
from ..ops.native import status
from ..spec import ModelError
from .cut import share_of, told
from .messages import PROTOCOL, Hello, ShareLoaded, Start

DTYPES = {str(dtype).removeprefix("mlx.core."): dtype for dtype in (mx.float32, mx.float16, mx.bfloat16)}


def name_of(dtype: mx.Dtype) -> str:
    return str(dtype).removeprefix("mlx.core.")


def hello(start: Start, opened: OpenedModel, version: str) -> Hello:
    device = opened.device
    return Hello(
        rank=start.rank,
        protocol=PROTOCOL,
        version=version,
        mlx=mx.__version__,  # type: ignore[attr-defined]  # MLX's stub forgets it
        node=platform.node(),
        usable=start.memory[start.rank] or this_machine().usable,
        device=f"a GPU ({gpu.info().get('device_name', '')})" if device.gpu else f"its processor ({status().isa})",
        model=digest_of(opened),
    )


def digest_of(opened: OpenedModel) -> str:
    """Of what the files say of themselves: names, shapes and places of all tensors, and the configuration."""
    found = hashlib.sha256(repr(opened.recipe.decoder).encode())
    for name, (_, place) in sorted(opened.checkpoint.stored.items()):
        found.update(f"{name} {place}\n".encode())
    return found.hexdigest()


def load_share(opened: OpenedModel, layers: range, options: LoadOptions) -> Model:
    whole = len(opened.recipe.decoder.layers)
    own = replace(opened, found=share_of(opened.recipe, layers), share=f"{told(layers)} of {whole}")
    loaded = load_opened(own, options)
    if not isinstance(loaded, Model):
        raise ModelError("A model type without recipe here is not run on several machines.")
    return loaded


def loaded(model: Model, context: int) -> ShareLoaded:
    budget = model.holdings.budget
    room = 0 if budget is None else max(0, budget.usable - budget.weights - budget.activations)
    return ShareLoaded(
        context=model.context,
        dtype=name_of(rows_of(model)),
        held=model.planned_bytes(min(context, model.context), 512),
        room=room,
    )


def rows_of(model: Model) -> mx.Dtype:
    """Of the rows that it makes; nothing is evaluated."""
    return model.decoder(model.decoder.one_token, [(SequenceCache(model.spec), 1)]).dtype
