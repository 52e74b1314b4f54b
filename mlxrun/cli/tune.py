"""mlxrun tune MODEL: time our Metal kernels against MLX's on this machine, and use the quicker from then on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..tune.measure import Timing

HELP = "time our Metal kernels against MLX's for a model, and use the quicker ones from then on"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    options.add_reading(parser)
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="stop after so long; 5 if not said")


def main(flags: argparse.Namespace) -> int:
    from ..loading import LoadOptions, load_model
    from ..loading.model import Model
    from ..ops.choose import Chooser
    from ..ops.device import this_device
    from ..settings import from_environment
    from ..store.resolve import resolve
    from ..tune import idle_tuner, measure, picks

    settings, machine = from_environment(), picks.this_machine()
    if machine is None:
        print("There is no Apple GPU here, so there are no Metal kernels to choose from.")
        return 0
    known = picks.load(settings.kernel_picks, machine)
    chooser = Chooser("auto", picks.forms(known))
    how = LoadOptions(device=this_device(chooser=chooser))
    model = load_model(resolve(flags.model), dialect=flags.dialect, waive=frozenset(flags.waive), options=how)
    if not isinstance(model, Model):
        print("mlx-lm runs this model; our kernels have no part in it.")
        return 0
    timings = measure.tune(measure.Bench(idle_tuner.steps_of(model), chooser, seconds=flags.seconds), known)
    picks.save(settings.kernel_picks, machine, {t.key: t.pick for t in timings})
    print("\n".join(line(t) for t in timings) or "Every shape of this model was measured before.")
    return 0


def line(t: Timing) -> str:
    if t.failed:
        return f"{t.pick.form:8} {t.key}: {t.cut} failed: {t.failed.splitlines()[0]}"
    return f"{t.pick.form:8} {t.key}: a step takes {1e3 * t.took:.3f} ms {t.cut}, {1e3 * t.before:.3f} ms before"
