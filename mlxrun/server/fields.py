"""The words in which dialects write down their requests and answers, as JSON Schema. Knows no dialect.

A field that would change the answer and is not honoured is `neutral`: it takes only the values that change nothing.
"""

from __future__ import annotations

from typing import Any

from .check import HOSTED, UNSET, UNSUPPORTED, UNTAGGED

Schema = dict[str, Any]


def text(about: str = "", **limits: Any) -> Schema:
    return _about({"type": "string", **limits}, about)


def whole(about: str = "", **limits: Any) -> Schema:
    return _about({"type": "integer", **limits}, about)


def number(about: str = "", **limits: Any) -> Schema:
    return _about({"type": "number", **limits}, about)


def flag(about: str = "") -> Schema:
    return _about({"type": "boolean"}, about)


def lists(items: Schema, about: str = "", **limits: Any) -> Schema:
    return _about({"type": "array", "items": items, **limits}, about)


def either(*options: Schema, about: str = "") -> Schema:
    return _about({"anyOf": list(options)}, about)


def one_of(*values: Any, about: str = "") -> Schema:
    return _about({"enum": list(values)}, about)


def fixed(*required: str, **properties: Schema) -> Schema:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def tagged(tag: str, *options: Schema, untagged: str | None = None, about: str = "") -> Schema:
    """One of these objects, told apart by that property, of which each has an enum of its own. `untagged`: what it
    is taken to be where it is missing."""
    for option in options:
        if tag not in option["required"] and untagged not in option["properties"][tag]["enum"]:
            raise ValueError(f"{tag} must be required, or nothing tells this object from the others.")
    told = {"oneOf": list(options), "discriminator": {"propertyName": tag}}
    return _about(told if untagged is None else {**told, UNTAGGED: untagged}, about)


def unset(schema: Schema, value: int = -1) -> Schema:
    """The same, where clients send that number for "not set"."""
    return {**schema, UNSET: value}


def hosted_left_out(schema: Schema) -> Schema:
    """The same list, without the tools that only their maker's own servers run."""
    return {**schema, HOSTED: True}


def neutral(*values: Any, about: str = "Not supported: only the value that changes nothing.") -> Schema:
    return {"enum": list(values), UNSUPPORTED: True, "description": about}


def _about(schema: Schema, about: str) -> Schema:
    return {**schema, "description": about} if about else schema


# of answers

TEXT, NUMBER, COUNT = text(), number(), whole(minimum=0)


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(**properties: Any) -> Schema:
    """An object with these properties, and perhaps others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}
