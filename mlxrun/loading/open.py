"""A path -> a model whose headers were read, once: what it is and by whose recipe. No byte of a weight is touched.

Everybody who needs to know something of the model is handed this: who plans, who packs, who speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..families import Recipe, UnknownFamily, resolve
from ..families.config import Dialect
from ..families.gguf import resolve_gguf
from ..ops.device import Device, this_device
from ..spec_towers import Towers
from ..weights import Checkpoint, open_checkpoint
from ..weights.checkpoint import open_config
from .forms import reading_of

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OpenedModel:
    checkpoint: Checkpoint
    found: Recipe | UnknownFamily  # why there is no recipe here: mlx-lm's class may run it then
    device: Device  # for which it was opened, and on which it will run
    dtype: mx.Dtype | None = None  # in which all of it shall be held, where a person says so
    waive: frozenset[str] = NOTHING  # keys of its config that a person goes on without
    share: str = ""  # which of its layers these are, where other machines have the others

    @property
    def path(self) -> Path:
        return self.checkpoint.path

    @property
    def towers(self) -> Towers | None:
        """What sees beside the decoder; None: nothing."""
        return None if isinstance(self.found, UnknownFamily) else self.found.towers

    @property
    def recipe(self) -> Recipe:
        if isinstance(self.found, UnknownFamily):
            raise self.found
        return self.found


def open_model(
    path: str | Path,
    *,
    dtype: mx.Dtype | None = None,
    dialect: Dialect | None = None,
    waive: frozenset[str] = NOTHING,
    mapped: bool = True,
    device: Device | None = None,
    to_plan: bool = False,
) -> OpenedModel:
    """`dtype` None: as stored where the device computes it well (see `forms`), float32 on a CPU.
    `device` None: what is best here. `to_plan`: a config.json alone will do."""
    device = device or this_device()
    checkpoint = (open_config(Path(path)) if to_plan else None) or open_checkpoint(path, dialect)
    checkpoint = checkpoint.read_as(reading_of(checkpoint, device, dtype), mapped=mapped)
    try:
        return OpenedModel(checkpoint, recipe_of(checkpoint, waive), device, dtype, waive)
    except UnknownFamily as unknown:
        if checkpoint.dialect == "gguf":
            raise
        return OpenedModel(checkpoint, unknown, device, dtype, waive)


def recipe_of(checkpoint: Checkpoint, waive: frozenset[str] = NOTHING) -> Recipe:
    if checkpoint.dialect == "gguf":
        return resolve_gguf(checkpoint.metadata, checkpoint.shapes, checkpoint.rope_factors, waive)
    known = checkpoint.processor, checkpoint.stored.keys()
    return resolve(checkpoint.config, checkpoint.dialect, waive, "config.json", *known)
