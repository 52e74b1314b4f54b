"""Which form each part of a layer takes on a device, and what keeps it from a faster one.

Told from the spec alone. Weights that are stored in no form which the device computes may still make a part slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..ops.device import Device
from ..ops.fast_forms import ATTENTION, DENSE, METAL_ATTENTION, METAL_DENSE, METAL_EXPERTS, STACK, FastForm
from ..spec import Decoder, Layer
from .stack import parts_of

ONE_NODE, BRANCH, LAUNCHES, APART = "one node", "a branch", "few launches", "operation by operation"


@dataclass(frozen=True, slots=True)
class PartForm:
    part: str  # "layer", "mixer", "network", or what lies "cross" between them
    kind: str  # of the spec: GatedDelta, MoE, ...
    form: str
    why: str = ""  # the first field that the faster form does not understand


def forms_of(spec: Decoder, device: Device) -> list[tuple[PartForm, ...]]:
    """Of every layer, in order."""
    if device.native and spec.kind == "decoder":
        return [tuple(_native(number, layer)) for number, layer in enumerate(spec.layers)]
    mixers, networks = ([ATTENTION], [DENSE]) if device.native else ([METAL_ATTENTION], [METAL_DENSE, METAL_EXPERTS])
    fast = BRANCH if device.native else LAUNCHES
    possible = device.native or device.chooser.possible()
    return [tuple(_branches(layer, mixers, networks, fast, possible=possible)) for layer in spec.layers]


def nodes_of(forms: list[tuple[PartForm, ...]]) -> int:
    """How many nodes a processor's pass has between embedding and head: neighbours of one node are one."""
    told = [part.form == ONE_NODE for parts in forms for part in parts]
    return sum(not one or at == 0 or not told[at - 1] for at, one in enumerate(told))


def slow_note(spec: Decoder, device: Device) -> str | None:
    """What of a decoder a processor computes more slowly than the rest, in a sentence."""
    if not device.native or spec.kind != "decoder":
        return None
    slow = [part for parts in forms_of(spec, device) for part in parts if part.form == APART]
    if not slow:
        return None
    kinds = ", ".join(sorted({part.kind for part in slow}))
    return (
        f"{kinds}: {len(slow)} parts of {len(spec.layers)} layers are computed {APART} here, more slowly than others."
    )


def _native(number: int, layer: Layer) -> Iterator[PartForm]:
    for part in parts_of(number, layer, cut=False):
        if part.crosses:
            yield PartForm("cross", type(part.spec.cross).__name__, BRANCH)
            continue
        whole = part.spec.mixer is not None and part.spec.ffn is not None
        name = "layer" if whole else "network" if part.spec.mixer is None else "mixer"
        kind = "" if whole and part.served else type(part.spec.mixer or part.spec.ffn).__name__
        yield PartForm(name, kind, ONE_NODE if part.served else APART, STACK.refuses(part.spec) or "")


def _branches(
    layer: Layer, mixers: list[FastForm], networks: list[FastForm], fast: str, *, possible: bool
) -> Iterator[PartForm]:
    for name, inner, forms in (("mixer", layer.mixer, mixers), ("network", layer.ffn, networks)):
        if inner is None:
            continue
        refused = [form.refuses(layer) for form in forms]
        if possible and None in refused:
            yield PartForm(name, type(inner).__name__, fast)
        else:
            own = [why for why in refused if why is not None and why != type(inner).__name__]
            yield PartForm(name, type(inner).__name__, APART, (own or refused)[0] or "")
