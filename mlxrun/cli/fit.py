"""mlxrun fit MODEL: whether a model fits a machine, told from its headers before anything is loaded.

Of a model of the hub that is not here only headers are asked for.
Exit code 0: it fits; 1: it does not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import USUAL_CONTEXT, RequestError
from . import options
from .terminal import aside, tell

if TYPE_CHECKING:
    from ..families import Recipe
    from ..loading.dry_run import DryRun
    from ..memory.machine import Machine
    from ..memory.plan import Advice, MemoryPlan
    from ..memory.streaming import Streaming
    from ..settings import Settings

HELP = "tell whether a model fits, here or on another Mac"
DOES_NOT = 1  # exit code
LIST = "list"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser, needed=False)
    parser.add_argument("--context", type=int, metavar="N", help=f"tokens of a sequence; {USUAL_CONTEXT} if not said")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="sequences of that length at once")
    parser.add_argument("--on", metavar="MACHINE", help='plan for another Mac, such as "M4 Pro 24GB"; list: which')
    parser.add_argument(
        "--machines", type=Path, metavar="FILE", help="plan for these machines together, each with some of its layers"
    )
    parser.add_argument("--json", action="store_true", help="the whole plan, for programs; bytes")
    options.add_reading(parser)
    options.add_disk(parser)
    options.add_key_bits(parser)
    options.add_adapters(parser, "beside it (repeatable)")


def main(flags: argparse.Namespace) -> int:
    from ..memory.here import this_machine
    from ..memory.need import Need
    from ..memory.plan import advise, plan
    from ..memory.profiles import profile
    from ..settings import from_environment
    from . import fit_machines, fit_picture

    if flags.on == LIST:
        return list_machines()
    if flags.model is None:
        raise RequestError("Which model? mlxrun fit MODEL; the Macs that can be planned for: mlxrun fit --on list.")
    settings = from_environment().but(context=flags.context, kv_bits=flags.kv_bits)
    if flags.machines is not None:
        return 0 if fit_machines.fit_together(flags, settings.context) else DOES_NOT
    machine = this_machine() if flags.on is None else profile(flags.on)
    recipe, seen = dry_run_for(flags, settings, machine)
    context, parallel = check_asked(recipe.decoder.context, settings.context, flags.parallel)
    decoder, towers = recipe.decoder, recipe.towers
    need = Need(decoder, seen.weights, seen.width, context, parallel, keys=seen.keys, towers=towers)
    made, advice = plan(need, machine), advise(need, machine)
    advice = advice if seen.order else replace(advice, disk=None)  # our native kernels have no part in it
    if flags.experts_on_disk and advice.disk is not None:
        disk = advice.disk
        made, advice = plan(disk.need, machine), replace(advise(disk.need, machine), disk=disk)
    if flags.json:
        print(json.dumps({"model": flags.model, **numbers(made, advice, seen)}, indent=2))
    else:
        fit_picture.show(flags.model, made, advice, seen)
    return 0 if made.fits else DOES_NOT


def list_machines() -> int:
    """One to a line, each name as --on takes it."""
    from ..memory.profiles import machines
    from .show import size

    found = machines()
    width = max(len(machine.name) for machine in found)
    tell(*(f"{m.name:{width}}  {size(m.usable):>9} for a model  {(m.bandwidth or 0) / 1e9:g} GB/s" for m in found))
    return 0


def dry_run_for(flags: argparse.Namespace, settings: Settings, machine: Machine) -> tuple[Recipe, DryRun]:
    from ..loading.adapters import with_adapter_bytes
    from ..loading.dry_run import dry_run, with_key_bits
    from ..loading.open import open_model
    from ..ops.device import a_mac, this_device
    from ..store.resolve import headers_of

    with headers_of(flags.model, settings, machine) as (place, downloaded):
        device = this_device() if machine.here else a_mac()
        bits = settings.kv_bits if machine.here else flags.kv_bits or 16
        waive = frozenset(flags.waive)
        opened = open_model(place, dialect=flags.dialect, waive=waive, device=device, to_plan=True)
        recipe = opened.recipe
        seen = with_key_bits(dry_run(opened.checkpoint, recipe, device), recipe.decoder, bits)
        seen, _ = with_adapter_bytes(seen, opened, options.adapters(flags))
    if not downloaded:
        aside(f"{flags.model} is not on this machine; this is told from its headers on the Hugging Face hub.")
    if not opened.checkpoint.files:
        aside(f"{flags.model} has a config.json and no weights: this is what they would be.")
    return recipe, seen


def check_asked(longest: int, context: int | None, parallel: int) -> tuple[int, int]:
    from ..core import allowed_context

    if parallel < 1:
        raise RequestError(f"--parallel must be a whole number from 1 on, not {parallel}.")
    return allowed_context(context, longest) or min(USUAL_CONTEXT, longest), parallel


def numbers(made: MemoryPlan, advice: Advice, seen: DryRun) -> dict[str, Any]:
    from ..memory.sequence import token_bytes

    need = made.need
    return {
        "fits": made.fits,
        "context": need.context,
        "parallel": need.parallel,
        "prefill_chunk": need.chunk,
        "machine": machine_numbers(made.machine),
        "weights": {
            "bytes": made.weights,
            "kinds": dict(need.weights.kinds),
            "bits_a_parameter": round(need.weights.bits, 3),
            "read_a_token": need.weights.read,
            "form": seen.form or "as stored",
            "on_disk": need.on_disk,
        },
        "cache": {
            "bytes": made.cache,
            "a_token": token_bytes(need.decoder, need.width, need.keys),
            "bits": 8 * (need.keys or need.width),
        },
        "activations": made.activations,
        "runtime": made.runtime,
        "total": made.total,
        "free": made.free,
        "advice": {
            "context": advice.context,
            "parallel": advice.parallel,
            "prefill_chunk": advice.chunk,
            "kv_bits": advice.kv_bits,
            "weight_bits": advice.bits,
            "weight_bytes": advice.bits_weights,
            "weight_bits_context": advice.bits_context,
            "machine": None if advice.machine is None else advice.machine.name,
            "wired_limit_mb": advice.wired_limit,
            "experts_on_disk": None if advice.disk is None else disk_numbers(advice.disk),
        },
        "decode_forecast_tokens_a_second": None if advice.speed is None else asdict(advice.speed),
    }


def disk_numbers(disk: Streaming) -> dict[str, Any]:
    from ..memory.streaming import RATE

    return {
        "bytes": disk.need.on_disk,
        "in_memory": disk.need.hot,
        "read_a_token": disk.read,
        "seconds_a_token": disk.seconds,
        "assumed_bytes_a_second": RATE,
    }


def machine_numbers(machine: Machine) -> dict[str, Any]:
    return {**asdict(machine), "reserved": machine.reserved}
