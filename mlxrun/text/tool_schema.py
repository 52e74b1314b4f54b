"""The schema of a tool's parameters -> what of it an answer is held to, and the words of it that are left out.

What is left out only makes the schema looser. Knows no grammar and no format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..core import RequestError

Schema = dict[str, Any]

MOST_DEEP = 64
WITH_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")  # by name
WITH_SCHEMA = ("items", "additionalProperties")
WITH_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
HELD = frozenset(
    {
        *("type", "enum", "const", "required", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minProperties", "maxProperties"),
    }
)
NOT_HELD = frozenset(  # words that say what is valid; any other is only about people
    {
        *("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicRef", "$recursiveRef"),
    }
)
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)  # that are texts of a known form
KINDS = ("string", "number", "integer", "boolean", "null", "array", "object")
LOOKS_ROUND = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9bBkcuU]")  # what a regular expression alone cannot say


class HeldSchema:
    """Of one tool. `left_out`: the words that nobody is held to, each with where it stands."""

    def __init__(self, parameters: Mapping[str, Any], where: str) -> None:
        self.left_out: list[str] = []
        self.where = where
        self.schema = self._read(parameters, where, 0)
        self.schema.setdefault("type", "object")
        if "properties" in self.schema and not {*self.schema.get("required", ())} - {*self.schema["properties"]}:
            self.schema.setdefault("additionalProperties", False)

    def _read(self, schema: Any, where: str, depth: int) -> Any:
        if depth > MOST_DEEP:
            raise RequestError(f"{where[:80]} is nested more than {MOST_DEEP} deep.")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise RequestError(f"{where[:200]} must be a JSON schema: an object, true or false.")
        return dict(self._words(schema, where, depth + 1))

    def _words(self, schema: Mapping[str, Any], where: str, depth: int) -> Iterator[tuple[str, Any]]:
        for word, value in schema.items():
            place = f"{where}.{word}"
            if word in WITH_SCHEMAS and isinstance(value, Mapping):
                yield word, {name: self._read(one, f"{place}.{name}", depth) for name, one in value.items()}
            elif word in WITH_SCHEMA and isinstance(value, Mapping | bool):
                yield word, self._read(value, place, depth)
            elif word in WITH_LIST and isinstance(value, list) and value:
                yield word, [self._read(one, f"{place}.{at}", depth) for at, one in enumerate(value)]
            elif is_held(word, value):
                yield word, value
            elif word == "propertyNames" and value == {"type": "string"}:
                continue  # as all names are
            elif word in NOT_HELD or word in HELD or word in ("$ref", "pattern", "format", *WITH_SCHEMA, *WITH_LIST):
                self.left_out.append(place)


def is_held(word: str, value: Any) -> bool:
    """Whether it is understood: what people write as a schema is not always one."""
    match word:
        case "type":
            kinds = value if isinstance(value, list) else [value]
            return bool(kinds) and all(kind in KINDS for kind in kinds)
        case "enum":
            return isinstance(value, list) and bool(value)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "$ref":
            return isinstance(value, str) and value.startswith(("#/$defs/", "#/definitions/"))
        case "pattern":
            return isinstance(value, str) and LOOKS_ROUND.search(value) is None and is_regex(value)
        case "format":
            return value in FORMATS
        case "const":
            return True
    return word in HELD and isinstance(value, int | float) and not isinstance(value, bool)


def is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def property_schema(schema: Schema, name: str) -> Schema | bool:
    """One property's, with all that it may refer to."""
    found = schema.get("properties", {}).get(name, True)
    return found if isinstance(found, bool) else found | shared_of(schema)


def shared_of(schema: Schema) -> Schema:
    """What its parts may refer to."""
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def referred(schema: Schema) -> Schema | bool:
    """What its $ref stands for."""
    group, _, name = str(schema["$ref"]).removeprefix("#/").partition("/")
    found = schema.get(group, {}).get(name, True)
    return found if isinstance(found, bool) else found | shared_of(schema)


def kinds_of(schema: Schema | bool, depth: int = 0) -> frozenset[str]:
    """What kinds of values it has a place for; an integer is a number."""
    everything = frozenset(KINDS) - {"integer"}
    if isinstance(schema, bool) or depth > 8:
        return everything
    if "$ref" in schema:
        return kinds_of(referred(schema), depth + 1)
    if "const" in schema or "enum" in schema:
        return frozenset(kind_of(one) for one in schema.get("enum", [schema.get("const")]))
    if "type" in schema:
        told = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return frozenset("number" if kind == "integer" else kind for kind in told)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            parts = [one if isinstance(one, bool) else one | shared_of(schema) for one in schema[word]]
            return frozenset().union(*(kinds_of(one, depth + 1) for one in parts))
    return everything


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")
