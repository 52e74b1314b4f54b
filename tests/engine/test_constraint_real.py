"""SmolLM2 as people run it, held to twenty schemas: what it completes fits them, and who stands beside is let be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mlxrun.assistant import Assistant, Wish
from mlxrun.core import Constraint, Finish, Sampling, Shape
from mlxrun.loading import LoadOptions

TEXT, WHOLE, NUMBER, FLAG = (
    {"type": "string", "maxLength": 12},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
)


def record(**properties: Any) -> dict[str, Any]:
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


SCHEMAS: list[dict[str, Any]] = [
    record(name=TEXT, age={"type": "integer", "minimum": 0, "maximum": 120}),
    record(colour={"enum": ["red", "green", "blue"]}, hex={"type": "string", "pattern": "^#[0-9a-f]{6}$"}),
    {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 4},
    record(point={"type": "array", "prefixItems": [NUMBER, NUMBER], "items": False, "minItems": 2}),
    record(tags={"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}, done=FLAG),
    record(inner=record(deep=record(value=FLAG))),
    {"type": "object", "properties": {"name": TEXT}, "required": ["name"], "additionalProperties": False},
    record(value={"anyOf": [WHOLE, {"type": "null"}]}),
    record(when={"type": "string", "format": "date"}),
    record(id={"type": "string", "format": "uuid"}),
    {"enum": ["yes", "no", None, 3]},
    {"const": {"fixed": [1, 2]}},
    record(share={"type": "number", "minimum": 0, "maximum": 1}),
    {"$defs": {"item": record(kind={"const": "leaf"}, size=WHOLE)}, "type": "array", "items": {"$ref": "#/$defs/item"}},
    {"$defs": {"tree": {"anyOf": [FLAG, record(left={"$ref": "#/$defs/tree"})]}}, "$ref": "#/$defs/tree"},
    record(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}),
    {"allOf": [{"type": "object", "properties": {"a": FLAG}, "required": ["a"]}, {"properties": {"b": FLAG}}]},
    {"type": "object", "additionalProperties": FLAG, "minProperties": 1, "maxProperties": 3},
    record(mail={"type": "string", "format": "email", "maxLength": 30}),
    record(multiple={"type": "integer", "multipleOf": 5, "minimum": 5, "maximum": 95}),
]
PROMPT = [{"role": "user", "content": "Invent one. Answer in JSON."}]
NEIGHBOURS = [Sampling(0), Sampling(1.0, seed=5, top_p=0.9), Sampling(0.7, seed=6, presence_penalty=0.5)]
MOST = 48


@pytest.fixture(scope="module")
def assistant(smollm2_gguf: Path) -> Iterator[Assistant]:
    assistant = Assistant.open(smollm2_gguf, options=LoadOptions(1024))
    yield assistant
    assistant.close()


def test_complete_answers_fit_their_schemas(assistant: Assistant) -> None:
    def neighbours() -> list[Any]:
        return [assistant.complete("Once upon a time", Wish(MOST, sampling))[0] for sampling in NEIGHBOURS]

    def said(answer: Any) -> str:
        return "".join(piece.content for piece in answer)

    alone = [said(assistant.complete("Once upon a time", Wish(MOST, sampling))[0]) for sampling in NEIGHBOURS]
    complete = 0
    for first in range(0, len(SCHEMAS), 5):
        beside, asked = neighbours(), []
        for index, schema in enumerate(SCHEMAS[first : first + 5], first):
            sampling = Sampling(0.8, seed=index, repetition_penalty=1.1 if index % 3 == 0 else 1.0)
            wish = Wish(MOST, sampling, constraint=Constraint(Shape.JSON_SCHEMA, json.dumps(schema)))
            asked.append((schema, assistant.chat(PROMPT, wish)))
        assert [said(answer) for answer in beside] == alone
        for schema, answer in asked:
            pieces = list(answer)
            text = "".join(piece.content for piece in pieces)
            assert pieces[-1].finish in (Finish.STOP, Finish.LENGTH), pieces[-1].reason
            if pieces[-1].finish is Finish.STOP:
                jsonschema_rs.validate(schema, json.loads(text))
                complete += 1
    assert complete >= len(SCHEMAS) // 2
