"""What an answer must be: the fields that ask for it in three dialects' names, and what a real model then says."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from mlxrun.core import Constraint, Shape

from .process import SECONDS, Serving
from .scripted import ask, error_of, server

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
USER = {"role": "user", "content": "Hi"}
WRITTEN = Constraint(Shape.JSON_SCHEMA, json.dumps(SCHEMA))
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASKED: list[tuple[dict[str, Any], Constraint | None]] = [
    ({"response_format": {"type": "json_object"}}, Constraint(Shape.JSON_SCHEMA, '{"type": "object"}')),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, WRITTEN),
    ({"response_format": {"type": "text"}}, None),
    ({"structured_outputs": {"json": SCHEMA}}, WRITTEN),
    ({"structured_outputs": {"json_object": True}}, Constraint(Shape.JSON_SCHEMA, '{"type": "object"}')),
    ({"structured_outputs": {"json_object": False, "regex": "a+"}}, Constraint(Shape.REGEX, "a+")),
    ({"structured_outputs": {"choice": ["a", "b"]}}, Constraint(Shape.CHOICE, '["a", "b"]')),
    ({"structured_outputs": {"grammar": 'start: "a"'}}, Constraint(Shape.LARK, 'start: "a"')),
    ({"guided_json": json.dumps(SCHEMA)}, WRITTEN),
    ({"guided_regex": "a+"}, Constraint(Shape.REGEX, "a+")),
    ({"guided_choice": ["a"], "guided_regex": None}, Constraint(Shape.CHOICE, '["a"]')),
    ({"json_schema": SCHEMA}, WRITTEN),
    ({"grammar": 'start: "a"'}, Constraint(Shape.LARK, 'start: "a"')),
]


@pytest.mark.parametrize(("fields", "constraint"), ASKED, ids=lambda value: str(value)[:50])
def test_fields_say_what_an_answer_must_be(fields: dict[str, Any], constraint: Constraint | None) -> None:
    for path, asks in ((CHAT, {"messages": [USER]}), (TEXT, {"prompt": "Hi"})):
        if path == TEXT and "response_format" in fields:
            continue  # OpenAI's older dialect does not have it
        own, engine = server()
        assert ask(own, path, {**asks, **fields}).status_code == 200
        assert engine.handles[0].request.constraint == constraint


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "one of"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "is missing"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "guided_regex and guided_choice both say"),
        ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs.json", "both say"),
        ({"grammar": 'root ::= "a"'}, "grammar", "this one is GBNF"),
        ({"guided_choice": []}, "guided_choice", "a list of 1 to 4096 texts"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "not supported"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(fields: dict[str, Any], param: str, said: str) -> None:
    own, engine = server()
    refused = ask(own, CHAT, {"messages": [USER], **fields})
    assert (refused.status_code, engine.handles) == (400, [])
    assert error_of(refused)["param"] == param
    assert said in error_of(refused)["message"]


def test_thoughts_run_free_where_the_prompt_opens_them() -> None:
    """The markers of this tokenizer are text; where it has none as tokens, an answer cannot open thoughts by itself."""
    own, engine = server()
    for think, after in ((True, tuple(b"</think>")), (False, None)):
        fields = {"chat_template_kwargs": {"enable_thinking": think}, "guided_regex": "a"}
        assert ask(own, CHAT, {"messages": [USER], **fields}).status_code == 200
        constraint = engine.handles[-1].request.constraint
        assert constraint is not None
        assert (constraint.after, constraint.opener) == (after, None)


def test_a_real_model_answers_in_json(smollm2: Serving) -> None:
    client = openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)
    schema = {**SCHEMA, "additionalProperties": False}
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}},
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" in json.loads(answer.choices[0].message.content or "")["city"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_invalid_schema_is_refused_by_the_real_server(smollm2: Serving, stream: bool) -> None:
    body = {"messages": [USER], "guided_json": {"type": "thing"}, "stream": stream}
    refused = smollm2.post(CHAT, body)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "The JSON schema cannot be used: Invalid type: thing."
    assert smollm2.answers()
