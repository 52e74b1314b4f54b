"""JSON values against JSON Schema, and a sentence where they do not fit.

The schemas that are checked are those that /openapi.json shows, so the document cannot promise anything
else. Only the words of JSON Schema that `fields.py` uses are known here. What may be left out may also be null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import ApiError

Schema = Mapping[str, Any]

PHRASES = {"string": "text", "boolean": "true or false", "integer": "a whole number", "number": "a number"}
UNSUPPORTED = "x-unsupported"
UNSET = "x-unset"  # the number by which clients say that they do not say
HOSTED = "x-hosted-left-out"  # a list of tools, without those that only their maker's own servers run
UNTAGGED = "x-untagged"  # the tag of an object that has none
MAX_SHOWN = 40  # characters of a wrong value in a sentence


def check(value: Any, schema: Schema, path: str = "") -> None:
    """Raises an error that names the first field that does not fit."""
    if not _alike(value, schema):
        if schema.get(UNSUPPORTED):
            raise ApiError(400, f"{path} is not supported by this server; leave it out.", param=path)
        raise ApiError(400, f"{path or 'The body'} must be {wanted(schema)}, not {shown(value)}.", param=path or None)
    if "enum" in schema:
        return  # equal to one of them, so there is nothing to look into
    option = option_of(value, schema)
    if option is None:
        raise _no_such_kind(value, schema, path)
    if option is not schema:
        check(value, option, path)
    elif isinstance(value, dict):
        _check_object(value, schema, path)
    elif isinstance(value, list) and not _scalar_items(schema):
        for index, item in enumerate(value):
            check(item, schema["items"], f"{path}[{index}]")


def option_of(value: Any, schema: Schema) -> Schema | None:
    """Which of several schemas is meant for that value: the first that it resembles, or the one that its tag names."""
    if "oneOf" in schema:
        return schema["oneOf"][at] if (at := _tagged(value, schema)) is not None else None
    if "anyOf" in schema:
        return next((option for option in schema["anyOf"] if _alike(value, option)), None)
    return schema


def _tagged(value: Any, schema: Schema) -> int | None:
    tag = schema["discriminator"]["propertyName"]
    named = value.get(tag) if isinstance(value, dict) else None
    named = schema.get(UNTAGGED) if named is None else named
    known = (option["properties"][tag]["enum"] for option in schema["oneOf"])
    return next((at for at, names in enumerate(known) if isinstance(named, str) and named in names), None)


def _no_such_kind(value: Any, schema: Schema, path: str) -> ApiError:
    tag = schema["discriminator"]["propertyName"]
    at = f"{path}.{tag}" if path else tag
    if value.get(tag) is None:
        return ApiError(400, f"{at} is missing.", param=at)
    known = [name for option in schema["oneOf"] for name in option["properties"][tag]["enum"] if name is not None]
    return ApiError(400, f"{at} must be {wanted({'enum': known})}, not {shown(value[tag])}.", param=at)


def _check_object(value: dict[str, Any], schema: Schema, path: str) -> None:
    at = f"{path}." if path else ""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    for name, inner in properties.items():  # first: a part that is no text misses its text only because of its type
        if name in value and (name in required or value[name] is not None):
            check(value[name], inner, at + name)
    for name in required:
        if name not in value:
            raise ApiError(400, f"{at}{name} is missing.", param=at + name)
    for name in value:
        others = schema.get("additionalProperties")
        if name not in properties and others is False:
            raise ApiError(400, f"The field {shown(at + name)} is not known here.", param=at + name)
        _check_name(name, schema.get("propertyNames", {}), path)
        if name not in properties and isinstance(others, Mapping):
            check(value[name], others, at + name)
    most = schema.get("maxProperties", len(value))
    if len(value) > most:
        raise ApiError(400, f"{path} must have at most {most} entries, not {len(value)}.", param=path)


def _check_name(name: str, names: Schema, path: str) -> None:
    if name in names.get("not", {}).get("enum", ()):
        raise ApiError(400, f"{path} must not set {name}.", param=path)
    if "pattern" in names and not re.search(names["pattern"], name):
        raise ApiError(400, f"{path} must name {names['description']}, not {shown(name)}.", param=path)


def _alike(value: Any, schema: Schema) -> bool:
    """Whether the value itself fits; of objects, that they are ones."""
    if "anyOf" in schema:
        return any(_alike(value, option) for option in schema["anyOf"])
    if "oneOf" in schema:
        return isinstance(value, dict)
    if "enum" in schema:
        return any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in schema["enum"])
    kind = schema.get("type")
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, str):
        return kind == "string" and _within(len(value), schema, "Length")
    if isinstance(value, list):
        inside = kind == "array" and _within(len(value), schema, "Items")
        return inside and (not _scalar_items(schema) or all(_alike(item, schema["items"]) for item in value))
    if isinstance(value, dict):
        return kind == "object"
    # NaN and infinity never come this far: the reader of the body refuses them
    if isinstance(value, int | float):
        fits = kind == "number" or (kind == "integer" and (isinstance(value, int) or value.is_integer()))
        return fits and _in_range(value, schema)
    return False


def _scalar_items(schema: Schema) -> bool:
    """Whether the items are told apart by `_alike` alone; objects in a list are looked into one by one."""
    return schema["items"].get("type", "object") != "object"


def _within(length: int, schema: Schema, of: str) -> bool:
    return bool(schema.get(f"min{of}", 0) <= length <= schema.get(f"max{of}", length))


def _in_range(value: float, schema: Schema) -> bool:
    return bool(
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value
    )


def wanted(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(wanted(option) for option in schema["anyOf"])
    if "enum" in schema:
        known = [shown(value) for value in schema["enum"]]
        return known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    kind = schema.get("type", "object")
    if kind == "array":
        return f"a list of {_limits(schema, 'minItems', 'maxItems')}{_plural(wanted(schema['items']))}"
    if kind == "object":
        return "an object"
    if kind == "string":
        return "text" + (" that is not empty" if schema.get("minLength") else "")
    phrase = PHRASES[kind]
    if "exclusiveMinimum" in schema:
        phrase += f" above {schema['exclusiveMinimum']}"
    if "minimum" in schema and "maximum" in schema:
        return f"{phrase} from {schema['minimum']} to {schema['maximum']}"
    if "minimum" in schema:
        return f"{phrase} from {schema['minimum']} on"
    return f"{phrase}, at most {schema['maximum']}" if "maximum" in schema else phrase


def _limits(schema: Schema, low: str, high: str) -> str:
    if low in schema and high in schema:
        return f"{schema[low]} to {schema[high]} "
    if schema.get(low) == 1:
        return "one or more "
    if low in schema:
        return f"at least {schema[low]} "
    return f"at most {schema[high]} " if high in schema else ""


def _plural(phrase: str) -> str:
    for one, many in (("a whole number", "whole numbers"), ("a number", "numbers"), ("an object", "objects")):
        phrase = phrase.replace(one, many)
    return phrase.replace("text that is", "texts that are").replace("a list of", "lists of")


def shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}...")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value) if isinstance(value, float) or abs(value) < 10**MAX_SHOWN else "a number that long"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"
