"""Which of our Metal kernels are quicker on this very machine: measured once for each shape, kept, and used from then.

`begin(settings)` gives the device to open a model for, which chooses by what is known, and what an engine may do with
that model while it is idle; `mlxrun tune MODEL` measures at once. Nothing here was ever run on a Mac: clock and device
are arguments, and tests script them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..ops.choose import Chooser
from ..ops.device import Device, this_device
from ..settings import Settings
from . import picks
from .idle_tuner import SECONDS, Table, slices, steps_of
from .measure import Bench

if TYPE_CHECKING:
    from ..loading.model import Runnable

Idle = Callable[["Runnable"], Generator[None, None, None]]


@dataclass(frozen=True, slots=True)
class Tuning:
    device: Device  # kernels are chosen as measured here, or as MLXRUN_KERNELS says
    idle: Idle | None = None  # what tunes a model that was loaded for it


def begin(settings: Settings) -> Tuning:
    """For one model; another one begins anew, with what was learnt."""
    machine = picks.this_machine()
    if machine is None:  # no Apple GPU
        return Tuning(this_device())
    chooser = Chooser(settings.kernels, picks.forms(picks.load(settings.kernel_picks, machine)))
    device = this_device(chooser=chooser)
    if not settings.tune or settings.kernels != "auto" or not device.gpu:
        return Tuning(device)
    table = Table(settings.kernel_picks, machine)
    return Tuning(device, lambda model: slices(Bench(steps_of(model), chooser, seconds=SECONDS), table))
