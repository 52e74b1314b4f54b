"""Every field of the SDKs' request types has a verdict in our schemas: a new release that brings one fails here."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from typing_extensions import TypedDict

from mlxrun.server.dialects.openai_fields import CHAT, COMPLETION
from mlxrun.server.fields import fixed, lists, one_of, tagged, text

from .sdk_types import without_verdict

AUDIO = {"messages[].content[]<type=file>", "messages[].content[]<type=input_audio>"}
OLD = {"messages[]<role=function>"}  # of the time before tools

# a schema, the SDK's types of it, and kinds of objects that are a 400 by their name
TABLE: list[tuple[Any, tuple[Any, ...], set[str]]] = [
    (CHAT, (chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming), AUDIO | OLD),
    (COMPLETION, (completions.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsStreaming), set()),
]


class Part(TypedDict, total=False):
    type: Literal["a"]
    new: int


class Asked(TypedDict):
    parts: list[Part]
    mode: Literal["x", "y"]
    other: int


@pytest.mark.parametrize(("schema", "kinds", "refused"), TABLE)
def test_every_field_has_a_verdict(schema: Any, kinds: tuple[Any, ...], refused: set[str]) -> None:
    assert {path for kind in kinds for path in without_verdict(kind, schema)} == refused


def test_what_has_none_is_found() -> None:
    schema = fixed(parts=lists(tagged("type", fixed(type=one_of("a"), text=text()), untagged="a")), mode=one_of("x"))
    assert {*without_verdict(Asked, schema)} == {"parts[].new", "other", "mode=y"}
