"""Which of our Metal kernels are quicker on this very machine: measured once for each shape, kept, and used from then.

`begin(settings)` puts what is known to use before a model is loaded; `mlxrun tune MODEL` measures. Nothing here was
ever run on a Mac: clock and device are arguments, and tests script them.
"""

from __future__ import annotations

from ..ops import choose
from ..settings import Settings
from . import buffers, picks


def begin(settings: Settings) -> None:
    """From here on kernels are chosen as measured here, or as MLXRUN_KERNELS says."""
    machine = picks.this_machine()
    if machine is None:  # no Apple GPU
        return
    buffers.apply(machine.chip)
    choose.use(settings.kernels, picks.load(settings.kernel_picks, machine))
