"""mlxrun show MODEL: what a checkpoint turns out to be, layer by layer. All it computes is what reading loses."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import describe, forms, mapping, options, show_adapter
from .terminal import tell

if TYPE_CHECKING:
    from ..families import Recipe
    from ..ops.quantized import Weight
    from ..weights import Checkpoint

HELP = "show a model's architecture, layer by layer; or an adapter's base, rank and digest"
INDENT = "  "
NO_BREAK = "\xa0"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--json", action="store_true", help="the whole spec, for programs")
    parser.add_argument(
        "--forms",
        action="store_true",
        help="which form each layer takes on this device, and what keeps it from a faster",
    )
    options.add_reading(parser)


def main(flags: argparse.Namespace) -> int:
    from ..loading import open_model
    from ..loading.forms import packs
    from ..settings import from_environment
    from ..store.resolve import resolve
    from ..weights import outline_weights

    if show_adapter.shows(options.at_home(flags.model), as_json=flags.json):
        return 0
    settings = from_environment()
    path = resolve(flags.model, settings)
    opened = open_model(path, dialect=flags.dialect, waive=frozenset(flags.waive))
    checkpoint, recipe = opened.checkpoint, opened.recipe
    weights = outline_weights(checkpoint, recipe, centred=packs(opened.device, None))
    files = mapping.files(opened)
    if flags.json:
        found = {"path": str(path), "spec": plain(recipe.decoder), **numbers(recipe, weights), "files": files}
        told = {"forms": forms.data(recipe.decoder, opened.device)} if flags.forms else {}
        print(json.dumps({**found, "losses": losses(checkpoint), **told}, indent=2))
    else:
        lines = [
            at_home(path),
            *text(recipe, shutil.get_terminal_size((100, 24)).columns),
            *sizes_text(recipe, weights),
            *losses_text(checkpoint),
            *(forms.lines(recipe.decoder, opened.device) if flags.forms else ()),
            *mapping.lines(opened, files, settings.ready),
        ]
        tell(*lines)
    return 0


def at_home(path: Path) -> str:
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def text(recipe: Recipe, width: int) -> list[str]:
    decoder = recipe.decoder
    lines = wrap_beside(f"{decoder.family}: ", ", ".join(describe.whole(decoder)), width)
    if recipe.towers is not None:
        lines += wrap_beside("sees: ", ", ".join(describe.tower(recipe.towers)), width)
    if recipe.left_out:
        lines.append(f"left out: {recipe.left_out}")
    found = describe.kinds(decoder)
    for places, sections in found:
        lines += ["", f"layer{'s' * (len(places) != 1)} {describe.ranges(places)}"]
        titles = max((len(section.title) for section in sections), default=0)
        for section in sections:
            lines += wrap_beside(
                f"{INDENT}{section.title:{titles}}  ", " · ".join(map(unbroken, section.phrases)), width
            )
    for places, sections in found[1:]:
        lines += ["", f"where layer {places[0]} differs from layer {found[0][0][0]}"]
        for one, other in describe.differences(sections, found[0][1]):
            lines += wrap_beside(INDENT, f"{one} — instead of: {other}", width)
    return lines


def wrap_beside(label: str, body: str, width: int) -> list[str]:
    """The body beside its label, on as many lines as it takes."""
    room = max(width - len(label), 30)
    rows = textwrap.wrap(body, room, break_long_words=False, break_on_hyphens=False)
    return [(" " * len(label) if index else label) + row.replace(NO_BREAK, " ") for index, row in enumerate(rows)]


def unbroken(phrase: str) -> str:
    return phrase.replace(" ", NO_BREAK)


def sizes_text(recipe: Recipe, weights: Mapping[str, Weight]) -> list[str]:
    from . import sizes

    parts, formats = sizes.by_part(recipe.decoder, weights), sizes.by_format(weights)
    total = sizes.Size(sum(s.parameters for s in parts.values()), sum(s.bytes for s in parts.values()))
    active = sizes.active_parameters(recipe.decoder, parts)
    meets = f", {count(active)} of them for each token" if active != total.parameters else ""
    lines = ["", f"{count(total.parameters)} parameters{meets}, {size(total.bytes)}"]
    for table in (parts, formats):
        width = max(map(len, table))
        lines += [f"{INDENT}{name:{width}}  {count(s.parameters):>7}  {size(s.bytes):>9}" for name, s in table.items()]
        lines.append("")
    return lines[:-1]


def losses(checkpoint: Checkpoint) -> dict[str, float]:
    """Stored type -> root mean square of the relative errors of its tensors."""
    found: dict[str, list[float]] = {}
    for _, kind, error in checkpoint.losses():
        found.setdefault(kind, []).append(error)
    return {kind: math.sqrt(sum(e * e for e in errors) / len(errors)) for kind, errors in found.items()}


def losses_text(checkpoint: Checkpoint) -> list[str]:
    found = losses(checkpoint)
    lines = [f"{INDENT}{kind}: weights are off by {error:.2%} (root mean square)" for kind, error in found.items()]
    return ["", "read with loss, measured on samples", *lines] if lines else []


def numbers(recipe: Recipe, weights: Mapping[str, Weight]) -> dict[str, Any]:
    from . import sizes

    parts = sizes.by_part(recipe.decoder, weights)
    return {
        "left_out": recipe.left_out,
        "active_parameters": sizes.active_parameters(recipe.decoder, parts),
        "parts": {name: plain(found) for name, found in parts.items()},
        "formats": {name: plain(found) for name, found in sizes.by_format(weights).items()},
    }


def plain(value: Any) -> Any:
    """Plain JSON data; a spec tells its kind, and an infinite number is the text "inf"."""
    if is_dataclass(value):
        inner = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **inner}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def count(number: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def size(number: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} B"
