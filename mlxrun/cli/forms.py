"""`mlxrun show --forms`: which form each layer takes on this device, as lines and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .describe import ranges

if TYPE_CHECKING:
    from ..ops.device import Device
    from ..spec import Decoder


def lines(spec: Decoder, device: Device) -> list[str]:
    from ..nn.forms import ONE_NODE, PartForm, forms_of, nodes_of

    forms = forms_of(spec, device)
    where = f"{nodes_of(forms)} nodes a pass, on this processor" if device.native else "on this device"
    found: dict[tuple[PartForm, ...], list[int]] = {}
    for number, parts in enumerate(forms):
        found.setdefault(parts, []).append(number)
    told = ["", f"forms: {len(forms)} layers, {where}"]
    for parts, numbers in found.items():
        label = f"layer{'s' * (len(numbers) != 1)} {ranges(numbers)}"
        if len(parts) == 1 and parts[0].part == "layer" and parts[0].form == ONE_NODE:
            told.append(f"  {label}: {ONE_NODE}, with its neighbours")
        else:
            told.append(f"  {label}: {'; '.join(map(_part, parts))}")
    return told


def data(spec: Decoder, device: Device) -> list[list[dict[str, Any]]]:
    from ..nn.forms import forms_of

    return [[asdict(part) for part in parts] for parts in forms_of(spec, device)]


def _part(part: Any) -> str:
    kind = f" ({part.kind})" if part.kind else ""
    why = f", because of {part.why}" if part.why not in ("", part.kind) else ""
    return f"{part.part}{kind} {part.form}{why}"
