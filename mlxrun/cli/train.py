"""mlxrun train CONFIG: an adapter from one YAML file. What it says is in docs/training.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .terminal import aside, say, tell

if TYPE_CHECKING:
    from ..training.events import TrainEvent
    from ..training.plan import TrainPlan
    from ..training.train import Prepared

HELP = "train an adapter (LoRA, DoRA) of a model, from one YAML file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a YAML file: model, data, out, and how")
    parser.add_argument("--dry-run", action="store_true", help="count the data and plan the memory; train nothing")
    parser.add_argument("--resume", action="store_true", help="go on with the state in out, as if it had never ended")


def main(flags: argparse.Namespace) -> int:
    from ..loading.open import open_model
    from ..store.resolve import resolve
    from ..training.config import read_config
    from ..training.plan import plan_training, refuse_what_does_not_fit
    from ..training.train import prepare, train
    from .progress import Bar

    config = read_config(flags.config)
    prepared = prepare(open_model(resolve(config.model)), config)
    plan = plan_training(prepared)
    show_data(prepared)
    show_plan(plan)
    refuse_what_does_not_fit(prepared, plan)
    if flags.dry_run:
        return 0
    bar = Bar("packing")
    train(prepared, show, resume=flags.resume, progress=bar)
    say(f"Try it: mlxrun run {config.model} --adapter {config.out}")
    return 0


def show_data(prepared: Prepared) -> None:
    data, course = prepared.data, prepared.course
    tell(
        f"{len(data.examples):,} rows, {data.tokens:,} tokens, {data.supervised:,} of them are learnt; "
        f"{course.steps:,} steps."
    )
    if data.cut:
        tell(f"{data.cut:,} rows are longer than {prepared.config.length} tokens and are cut.")
    if data.empty:
        tell(f"{data.empty:,} rows have nothing to learn within that length and are left out.")
    if data.broken.count:
        tell(f"{data.broken.count:,} rows cannot be used: {'; '.join(data.broken.places)}.")


def show_plan(plan: TrainPlan) -> None:
    tell(f"{plan.numbers:,} numbers are trained, beside {plan.matrices} of {plan.changeable} matrices.")
    parts = {
        "the model": plan.frozen,
        "its matrices turned round": plan.turned,
        "trained, gradients, moments": plan.trained,
        "activations": plan.activations,
        "loss": plan.loss,
        "together": plan.total,
        "free": plan.free,
    }
    tell(*(f"  {name:<28}{size / 1e6:>12,.1f} MB" for name, size in parts.items()))


def show(event: TrainEvent) -> None:
    from ..training.events import Began, Evaluated, Sampled, Saved, Stepped

    match event:
        case Began() if event.step:
            tell(f"Goes on after step {event.step} of {event.steps}.")
        case Stepped():
            tell(
                f"step {event.step}/{event.steps}  loss {event.loss:.4f}  rate {event.rate:.2e}  "
                f"gradient {event.gradient:.3f}  {event.learnt}/{event.tokens} tokens  {event.seconds:.2f} s"
            )
        case Evaluated():
            tell(f"step {event.step}  held out: loss {event.loss:.4f} over {event.learnt:,} tokens")
        case Sampled():
            tell(f"step {event.step}  {event.prompt}  ->  {event.text}")
        case Saved():
            aside(f"step {event.step}: saved in {event.place}")
