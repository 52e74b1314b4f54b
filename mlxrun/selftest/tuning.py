"""Part: which of our Metal kernels are quicker than MLX's here, measured as `mlxrun tune` does, and not kept.

A kernel that the device refuses fails the part; one that is slower does not, for then MLX's own runs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import mlx.core as mx

from .. import gpu
from ..loading import LoadOptions, load_model
from ..ops.choose import MLX, Chooser
from ..ops.device import this_device
from ..settings import from_environment
from ..store import starter
from ..tune.idle_tuner import steps_of
from ..tune.measure import Bench, Timing, tune
from .made import Dimensions, write
from .notes import Notes
from .results import NotRun

SHARE = 0.6  # of the part's time, for measuring


def choose(notes: Notes) -> str:
    chooser = Chooser("auto")
    if not chooser.possible():
        raise NotRun(f"Only Metal kernels are chosen from: {gpu.why_not() or 'the GPU here has no Metal.'}")
    options = LoadOptions(1024, device=this_device(chooser=chooser), ready=None)
    with tempfile.TemporaryDirectory(prefix="mlxrun-selftest-") as scratch:
        place = from_environment().models / starter.FILE
        if not starter.present(place):
            place = Path(scratch)
            write(place, Dimensions(layers=4, files=1))
        notes.number("model", place.name if place.suffix else "random weights")
        notes.begin("loading")
        model = load_model(place, options=options)
        notes.begin("measuring")
        return told(notes, tune(Bench(steps_of(model), chooser, seconds=SHARE * notes.left), {}))


def told(notes: Notes, timings: list[Timing]) -> str:
    for one in timings:
        cut = f"{one.key}: {one.cut}"
        if one.failed:
            notes.check(cut, False, one.failed.strip().splitlines()[0][:300])
        else:
            notes.check(cut, True, f"{1e3 * one.took:.3f} ms a step, {1e3 * one.before:.3f} before", pick=one.pick.form)
    last = {one.key: one.pick.form for one in timings}
    counted = Counter("MLX's" if form == MLX else "ours" for form in last.values())
    notes.number("picks", last)
    mx.synchronize()
    return f"{len(last)} shapes measured, ours quicker for {counted['ours']}"
