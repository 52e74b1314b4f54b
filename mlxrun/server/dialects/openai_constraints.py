"""What an answer must be, as OpenAI's requests ask for it, and in the names of vLLM and llama.cpp. Knows no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ...core import Constraint, Shape
from ..dialect import Body
from ..errors import ApiError
from ..fields import Schema, either, fixed, flag, lists, neutral, one_of, text

MAX_CHOICES = 4096
ANY_OBJECT = {"type": "object"}
UNHEEDED = "Accepted and ignored: it does not change the answer."

SCHEMA: Schema = {"type": "object", "description": "A JSON schema; what it asks and cannot be held to is refused."}
JSON = either(SCHEMA, text(minLength=1), about="A JSON schema, or the same as text.")
REGEX = text("A regex that the whole answer matches.", minLength=1)
CHOICE = lists(text(minLength=1), "The answer is one of these texts.", minItems=1, maxItems=MAX_CHOICES)
GRAMMAR = text("A grammar in the Lark form that llguidance reads; GBNF is refused.", minLength=1)
OBJECT = flag("Any JSON object.")

RESPONSE_FORMAT: Schema = {
    **fixed(
        "type",
        type=one_of("text", "json_object", "json_schema"),
        schema={**SCHEMA, "description": "llama.cpp's: with json_object, what the object must be."},
        json_schema=fixed(
            name=text(UNHEEDED),
            description=text(UNHEEDED),
            schema=SCHEMA,
            strict=flag("Accepted and ignored: a schema is always held to."),
        ),
    ),
    "description": "Text, any JSON object, or JSON as a schema describes it.",
}
KINDS = {"json": JSON, "json_object": OBJECT, "regex": REGEX, "choice": CHOICE, "grammar": GRAMMAR}
OLDER = {f"guided_{kind}": kind for kind in ("json", "regex", "choice", "grammar")}  # vLLM's names before
ALIASES = {**OLDER, "json_schema": "json", "grammar": "grammar"}  # the last two are llama.cpp's

CONSTRAINTS: dict[str, Schema] = {
    "structured_outputs": {
        **fixed(**KINDS, structural_tag=neutral(None)),
        "description": "What the answer must be: one of these.",
    },
    **{name: {**KINDS[kind], "description": f"As structured_outputs.{kind}."} for name, kind in ALIASES.items()},
}


def constraint_of(body: Body) -> Constraint | None:
    asked = [*asked_of(body)]
    if len(asked) > 1:
        (one, *_), (other, *_) = asked[:2]
        raise ApiError(400, f"{one} and {other} both say what the answer must be; give one of them.", param=other)
    for name, kind, value in asked:
        if kind == "grammar" and "::=" in value:
            message = f"{name} must be a Lark grammar as llguidance reads it; this one is GBNF, by its '::='."
            raise ApiError(400, message, param=name)
        return CONSTRAINED[kind](value)
    return None


def asked_of(body: Body) -> Iterator[tuple[str, str, Any]]:
    """Names of fields, what kind each is, what it says."""
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        schema = form.get("schema")
        yield "response_format", "json_object" if schema is None else "json", True if schema is None else schema
    if form.get("type") == "json_schema":
        told = form.get("json_schema") or {}
        if told.get("schema") is None:
            message = "response_format.json_schema.schema is missing."
            raise ApiError(400, message, param="response_format.json_schema.schema")
        yield "response_format", "json", told["schema"]
    for kind, value in (body.get("structured_outputs") or {}).items():
        if value is not None and value is not False:
            yield f"structured_outputs.{kind}", kind, value
    for name, kind in ALIASES.items():
        if body.get(name) is not None:
            yield name, kind, body[name]


CONSTRAINED = {
    "json": lambda schema: Constraint(Shape.JSON_SCHEMA, schema if isinstance(schema, str) else json.dumps(schema)),
    "json_object": lambda _: Constraint(Shape.JSON_SCHEMA, json.dumps(ANY_OBJECT)),
    "regex": lambda regex: Constraint(Shape.REGEX, regex),
    "choice": lambda texts: Constraint(Shape.CHOICE, json.dumps(texts)),
    "grammar": lambda grammar: Constraint(Shape.LARK, grammar),
}
