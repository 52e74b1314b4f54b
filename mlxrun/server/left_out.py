"""What a request says and this server does not know: left out of it before a dialect reads it, and told.

Every dialect gets this for its whole body from `generate`, by the schema that it shows; what a dialect itself leaves
out, such as tools that only their maker's servers run, it names in `Job.left_out`. Whoever would rather have an error
starts the server with --strict. Knows no dialect.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .body import parse
from .check import HOSTED, UNSET, Schema, option_of, shown
from .errors import ApiError

HEADER = "x-mlxrun-left-out"
MOST_NAME, MOST_NAMES = 80, 40  # letters of a name, names
HOSTED_TOOL = re.compile(
    r"(web_search|web_fetch|file_search|code_interpreter|code_execution|image_generation|mcp|mcp_toolset|computer|"
    r"computer_use|shell|local_shell|tool_search|tool_search_tool|memory|advisor|apply_patch|programmatic_tool_calling)([-_](preview|tool|regex|bm25|\d)\w*)*"
)
LOG = logging.getLogger("mlxrun.server")
MOST_TOLD = 256  # different lines of the log
_told: dict[str, None] = {}


def understood(raw: bytes, schema: Schema, *, strict: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A body as its schema means it, not checked yet, and the names of what was taken out; `strict`: there are none."""
    body = parse(raw)
    names = settle(body, schema)
    if strict:
        refuse(names)
    return body, names


def settle(body: dict[str, Any], schema: Schema) -> tuple[str, ...]:
    """Takes out of the body what its schema does not know, and returns the names. What is known becomes what the
    schema means: 1.0 is 1 where a whole number is wanted, and a number that stands for "not set" is null."""
    names: dict[str, None] = {}
    _settled(body, schema, "", names)
    return tuple(names)


def _settled(value: Any, schema: Schema, path: str, names: dict[str, None]) -> Any:
    option = option_of(value, schema)
    if option is None:  # does not fit; `check` says how
        return value
    if isinstance(value, dict):
        _settle_object(value, option, path, names)
    elif isinstance(value, list):
        items = option.get("items", {})
        if option.get(HOSTED):
            _drop_hosted(value, path, names)
        if items.get("type") not in ("string", "number", "boolean"):
            value[:] = [_settled(item, items, f"{path}[]", names) for item in value]
    elif isinstance(value, float) and option.get("type") == "integer" and value.is_integer():
        return int(value)
    return value


def _drop_hosted(tools: list[Any], path: str, names: dict[str, None]) -> None:
    kinds = [str(tool.get("type")) if isinstance(tool, dict) else "" for tool in tools]
    names.update(dict.fromkeys(f"{path}: {kind}" for kind in kinds if is_hosted(kind)))
    tools[:] = [tool for tool, kind in zip(tools, kinds, strict=True) if not is_hosted(kind)]


def _settle_object(value: dict[str, Any], schema: Schema, path: str, names: dict[str, None]) -> None:
    at = f"{path}." if path else ""
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in [*value]:
        inner = properties.get(name, others)
        if inner is False:
            del value[name]
            if len(names) < MOST_NAMES:
                names[at + name] = None
        elif isinstance(inner, Mapping):
            unset = UNSET in inner and value[name] == inner[UNSET] and not isinstance(value[name], bool)
            value[name] = None if unset else _settled(value[name], inner, at + name, names)


def is_hosted(kind: str) -> bool:
    """Whether a tool of that type is one that its maker's own servers run: agents send them to everybody."""
    return HOSTED_TOOL.fullmatch(kind) is not None


def refuse(names: Sequence[str]) -> None:
    """What `--strict` says."""
    if names:
        message = f"The field {shown(names[0])} is not known here, and this server was started with --strict."
        raise ApiError(400, message, param=names[0][:MOST_NAME])


def listed(names: Sequence[str]) -> str:
    """For a header, which may not begin or end with a space: names may hold anything, or nothing."""
    return ", ".join(quote(name[:MOST_NAME], safe="[]:/ ").strip() or '""' for name in names[:MOST_NAMES])


def log(path: str, names: Sequence[str]) -> None:
    """Once for each path and names: an agent sends the same with every request."""
    line = f"left out of requests at {path}: {listed(names)}"
    if line not in _told and len(_told) < MOST_TOLD:
        _told[line] = None
        LOG.warning(line)
