"""An adapter as `mlxrun show` and `mlxrun list --adapters` tell it: whose it is, and by what it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import RequestError
from ..spec import ModelError, one_line
from .terminal import tell

if TYPE_CHECKING:
    from ..adapters.describe import AdapterFacts

SHORT = 12  # letters of a digest that people read


def shows(place: Path, *, as_json: bool) -> bool:
    """Whether there is an adapter, which is told then."""
    from ..adapters.describe import facts_of, is_adapter

    if not is_adapter(place):
        return False
    facts = facts_of(place)
    if as_json:
        print(json.dumps(facts.data(), indent=2))
    else:
        tell(*lines(facts))
    return True


def lines(facts: AdapterFacts) -> list[str]:
    from .show import size

    kind = "DoRA" if facts.lengths else "LoRA"
    ranks, scales = (", ".join(f"{one:g}" for one in found) for found in (facts.ranks, facts.scales))
    return [
        f"{one_line(facts.name)}: an adapter ({kind}, {facts.format}), {size(facts.bytes)}",
        f"  base      {facts.base or 'not told'}",
        f"  digest    {facts.digest}",
        f"  rank      {ranks}, scale {scales}",
        f"  changes   {', '.join(f'{count} {one_line(name)}' for name, count in facts.matrices.items())}",
    ]


def list_folder(folder: Path, *, as_json: bool) -> int:
    """A line each; one that cannot be read says why."""
    from ..adapters.describe import adapters_in, facts_of
    from .show import size

    if not os.path.isdir(folder):
        raise RequestError(f"--adapters names {folder}, which is no folder.")
    found: list[AdapterFacts | tuple[str, str]] = []
    for place in adapters_in(folder):
        try:
            found.append(facts_of(place))
        except ModelError as error:
            found.append((place.name, str(error)))
    if as_json:
        broken = [dict(zip(("name", "error"), one, strict=True)) for one in found if isinstance(one, tuple)]
        print(json.dumps([*(one.data() for one in found if not isinstance(one, tuple)), *broken], indent=2))
        return 0
    rows = [
        (one_line(one[0]), "", "", one[1])
        if isinstance(one, tuple)
        else (
            one_line(one.name),
            size(one.bytes),
            one.digest[:SHORT],
            f"of {one.base or 'a model that it does not name'}",
        )
        for one in found
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    tell(*(f"{name:{widths[0]}}  {own:>{widths[1]}}  {digest:{widths[2]}}  {base}" for name, own, digest, base in rows))
    return 0
