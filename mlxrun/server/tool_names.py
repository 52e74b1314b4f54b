"""What a tool may be called, whatever the dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .check import shown
from .errors import ApiError

NAME = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def check_tool_names(names: Sequence[str], path: str) -> None:
    """`path`: of a name in the request, with {index}."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        at = path.format(index=index)
        if NAME.fullmatch(name) is None:
            message = f"{at} must be 1 to 128 letters, digits and any of _ . : -, not {shown(name)}."
            raise ApiError(400, message, param=at)
        if name in seen:
            raise ApiError(400, f"{at} is {shown(name)}, which another tool is called already.", param=at)
        seen.add(name)
