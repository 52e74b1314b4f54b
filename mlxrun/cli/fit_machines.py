"""mlxrun fit MODEL --machines FILE: whether a model fits several machines together, each with some of its layers.

No host is asked: what one has its entry says, and of this machine it is seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..core import RequestError
from ..machines.hostfile import HostEntry, Hostfile, read_hostfile
from ..spec import ModelError
from .terminal import tell

if TYPE_CHECKING:
    from ..loading import OpenedModel
    from ..memory.machine import Machine
    from ..memory.plan import MemoryPlan
    from ..ops.device import Device


@dataclass(frozen=True, slots=True)
class PlannedShare:
    name: str  # of the machine
    layers: range
    made: MemoryPlan


def machines_of(file: Hostfile) -> list[Machine]:
    """Of each host what it may use; those that are this one share what is free."""
    here = sum(host.local and not host.memory and not host.machine for host in file.hosts)
    return [machine_of(host, here) for host in file.hosts]


def machine_of(host: HostEntry, here: int) -> Machine:
    from ..memory.here import this_machine
    from ..memory.profiles import profile

    if host.machine:
        found = profile(host.machine)
    elif host.local:
        found = this_machine()
        found = found if host.memory else replace(found, usable=found.usable // here)
    elif not host.memory:
        raise RequestError(
            f'{host.name}: fit asks no host, so its entry must have its "memory", such as "20GB", '
            'or its "machine", such as "M4 Pro 24GB".'
        )
    else:
        found = replace(this_machine(), total=host.memory, usable=host.memory, here=False)
    return replace(found, usable=min(found.usable, host.memory)) if host.memory else found


def device_for(file: Hostfile) -> Device:
    from ..ops.device import a_mac, this_device

    return a_mac() if any(host.machine for host in file.hosts) else this_device()


def planned(opened: OpenedModel, file: Hostfile, context: int, parallel: int) -> list[PlannedShare]:
    from ..loading.dry_run import dry_run
    from ..machines.cut import share_of, why_not
    from ..machines.lead import shares
    from ..memory.need import Need
    from ..memory.plan import plan

    if (why := why_not(opened.recipe)) is not None:
        raise ModelError(f"{opened.path.name}: {why}.")
    machines = machines_of(file)
    found = []
    cuts = shares(opened, context * parallel, [machine.usable for machine in machines])
    for host, machine, layers in zip(file.hosts, machines, cuts, strict=True):
        recipe = share_of(opened.recipe, layers)
        seen = dry_run(opened.checkpoint, recipe, opened.device)
        need = Need(recipe.decoder, seen.weights, seen.width, context, parallel, keys=seen.keys)
        found.append(PlannedShare(host.name, layers, plan(need, machine)))
    return found


def fit_together(flags: argparse.Namespace, context: int | None) -> bool:
    """Whether it fits; told."""
    from ..loading.open import open_model
    from ..settings import from_environment
    from ..store.resolve import headers_of
    from .fit import check_asked

    if flags.on is not None:
        raise RequestError('--machines says what each machine is ("machine" of a host): leave out --on.')
    file = read_hostfile(flags.machines)
    settings = from_environment()
    device = device_for(file)
    with headers_of(flags.model, settings) as (place, _):
        waive = frozenset(flags.waive)
        opened = open_model(place, dialect=flags.dialect, waive=waive, device=device, to_plan=True)
        tokens, parallel = check_asked(opened.recipe.decoder.context, context, flags.parallel)
        found = planned(opened, file, tokens, parallel)
    fits = all(share.made.fits for share in found)
    if flags.json:
        print(json.dumps({"model": flags.model, "fits": fits, "context": tokens, "machines": numbers(found)}, indent=2))
    else:
        tell(*lines(flags.model, found, tokens))
    return fits


def numbers(found: Sequence[PlannedShare]) -> list[dict[str, object]]:
    return [
        {
            "name": share.name,
            "layers": [share.layers.start, share.layers.stop],
            "weights": share.made.weights,
            "cache": share.made.cache,
            "activations": share.made.activations,
            "total": share.made.total,
            "usable": share.made.machine.usable,
            "fits": share.made.fits,
        }
        for share in found
    ]


def lines(model: str, found: Sequence[PlannedShare], context: int) -> list[str]:
    from ..machines.cut import told
    from .show import size

    width = max(len(share.name) for share in found)
    rows = [
        f"{share.name:{width}}  {told(share.layers):16}  weights {size(share.made.weights):>9}  cache "
        f"{size(share.made.cache):>9}  in all {size(share.made.total):>9} of {size(share.made.machine.usable):>9}"
        f"{'' if share.made.fits else '  does not fit'}"
        for share in found
    ]
    verdict = "fits" if all(share.made.fits for share in found) else "does not fit"
    return [f"{model} {verdict} {len(found)} machines with a context of {context} tokens.", *rows]
