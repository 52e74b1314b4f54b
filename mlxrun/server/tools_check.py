"""What every dialect asks of the tools that a request brings, before a model sees them. Knows no dialect's shape."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .check import shown
from .errors import ApiError

MOST_TOOLS = 512
NAME = re.compile(r"[\w.:-]{1,128}", re.ASCII)
FIELD = "tools"


def check_tools(named: Iterable[tuple[str, str]], field: str = FIELD) -> None:
    """`named`: each tool's name and where it stands in the request, such as tools[3].function.name."""
    tools = list(named)
    if len(tools) > MOST_TOOLS:
        raise ApiError(400, f"{field} must have at most {MOST_TOOLS} entries, not {len(tools)}.", param=field)
    where: dict[str, str] = {}
    for name, place in tools:
        if not NAME.fullmatch(name):
            kinds = "1 to 128 letters, digits and . : - _"
            raise ApiError(400, f"{place} must be a name of {kinds}, not {shown(name)}.", param=place)
        if name in where:
            raise ApiError(400, f"{place} is {shown(name)}, which {where[name]} is already.", param=place)
        where[name] = place
