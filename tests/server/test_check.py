"""Our reader of JSON Schema against another implementation of it, on the schemas that are in use."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.core import Sampling
from mlxrun.server.check import check
from mlxrun.server.dialects import DIALECTS, PLAINS
from mlxrun.server.dialects.openai_fields import CHAT, COMPLETION
from mlxrun.server.errors import ApiError
from mlxrun.server.left_out import settle
from mlxrun.server.openapi import document

PUBLISHED = {
    path: content["application/json"]["schema"]
    for path, methods in document(DIALECTS, PLAINS, Sampling())["paths"].items()
    if "post" in methods and "application/json" in (content := methods["post"]["requestBody"]["content"])  # else a form
}
OURS = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 25),
    st.sampled_from([0.5, -0.5, 1.0, 100.5, 2**64, 2**64 - 1]),
    st.sampled_from(["", "x", "text", "none", "auto", "user", "tool", "medium", "y" * 1025]),
)
SMALL = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.sampled_from(["type", "text"]), SCALARS))
KEYS = st.sampled_from(["type", "text", "role", "content", "name", "refusal", "tool_calls", "include_usage", "self"])
VALUES = st.one_of(SMALL, st.lists(SMALL, max_size=9), st.dictionaries(KEYS, SMALL, max_size=3))
PARTS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]), "text": SCALARS}), max_size=2)
MESSAGES = st.fixed_dictionaries(
    {"role": SCALARS, "content": SCALARS | PARTS}, optional={"name": SCALARS, "x": SCALARS, "refusal": SCALARS}
)


def listed(schema: Any) -> list[Any]:
    """Every value that an enum of the schema names, lists and objects among them."""
    if isinstance(schema, list):
        return [value for item in schema for value in listed(item)]
    if not isinstance(schema, dict):
        return []
    return [*schema.get("enum", ()), *(value for inner in schema.values() for value in listed(inner))]


LISTED = {path: st.sampled_from(listed(schema)) for path, schema in OURS.items()}


def accepts(schema: Any, body: Any) -> bool:
    try:
        body = copy.deepcopy(body)
        settle(body, schema)
        check(body, schema)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize("path", OURS)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_same_bodies_are_accepted(path: str, data: st.DataObject) -> None:
    names = st.sampled_from([*OURS[path]["properties"], "unknown"])
    changes = data.draw(st.dictionaries(names, VALUES | LISTED[path], max_size=3))
    if path == "/v1/chat/completions" and data.draw(st.booleans()):
        changes["messages"] = data.draw(st.lists(MESSAGES, max_size=2))
    body = {**GOOD[path], **changes}
    if data.draw(st.integers(0, 9)) == 0:
        body.pop(next(iter(body)))
    assert accepts(OURS[path], body) == jsonschema_rs.is_valid(PUBLISHED[path], body), json.dumps(body)[:300]


@pytest.mark.parametrize("path", OURS)
def test_every_neutral_value_is_accepted(path: str) -> None:
    for name, schema in OURS[path]["properties"].items():
        for value in schema.get("enum", ()):
            check({**GOOD[path], name: value}, OURS[path])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": "hot"}, "temperature must be a number from 0 to 100, not 'hot'."),
        ({"temperature": True}, "temperature must be a number from 0 to 100, not true."),
        ({"n": 9}, "n must be a whole number from 1 to 8, not 9."),
        ({"top_p": -1}, "top_p must be a number from 0 to 1, not -1."),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1 on, not 0."),
        ({"stop": ""}, "stop must be text that is not empty or a list of at most 16 texts that are not empty, not ''."),
        (
            {"stop": [1]},
            "stop must be text that is not empty or a list of at most 16 texts that are not empty, not a list.",
        ),
        ({"functions": [{}]}, "functions is not supported by this server; leave it out."),
        ({"tools": [{}]}, "tools[0].function is missing."),
        ({"tools": [{"type": "tune"}]}, "tools[0].type must be one of 'function', 'custom', not 'tune'."),
        ({"tool_choice": "any"}, "tool_choice must be one of 'none', 'auto', 'required' or an object, not 'any'."),
        ({"logit_bias": {"a": 5}}, "logit_bias must name ids of tokens, not 'a'."),
        ({"logit_bias": {"1": "x"}}, "logit_bias.1 must be a number from -100 to 100, not 'x'."),
        (
            {"logit_bias": dict.fromkeys(map(str, range(1025)), 1)},
            "logit_bias must have at most 1024 entries, not 1025.",
        ),
        ({"colour": 1}, "The field 'colour' is not known here."),
        ({"stream_options": {"x": 1}}, "The field 'stream_options.x' is not known here."),
        ({"messages": None}, "messages must be a list of one or more objects, not null."),
        ({"messages": []}, "messages must be a list of one or more objects, not an empty list."),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing."),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type must be one of 'text', 'image_url', not 'input_audio'.",
        ),
        ({"seed": 10**50}, "seed must be a whole number from 0 to 18446744073709551615, not a number that long."),
    ],
)
def test_the_sentence_names_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        check({**GOOD["/v1/chat/completions"], **fields}, CHAT)
    assert caught.value.message == message
