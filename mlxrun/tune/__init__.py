"""Which of our Metal kernels are quicker on this very machine: measured once for each shape, kept, and used from then.

`begin(settings)` puts what is known to use before a model is loaded, and gives what an engine may do with it while it
is idle; `mlxrun tune MODEL` measures at once. Nothing here was ever run on a Mac: clock and device are arguments, and
tests script them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import mlx.core as mx

from ..ops import choose
from ..settings import Settings
from . import buffers, picks
from .idle import SECONDS, Table, slices, steps_of
from .measure import Bench

if TYPE_CHECKING:
    from ..loading.model import Runnable

Idle = Callable[["Runnable"], Generator[None, None, None]]


def begin(settings: Settings) -> Idle | None:
    """From here on kernels are chosen as measured here, or as MLXRUN_KERNELS says. Gives what tunes a loaded model."""
    machine = picks.this_machine()
    if machine is None:  # no Apple GPU
        return None
    buffers.apply(machine.chip)
    choose.use(settings.kernels, picks.forms(picks.load(settings.kernel_picks, machine)))
    if not settings.tune or settings.kernels != "auto" or mx.default_device().type == mx.DeviceType.cpu:
        return None
    table = Table(settings.kernel_picks, machine)
    return lambda model: slices(Bench(steps_of(model), choose.chooser, seconds=SECONDS), table)
