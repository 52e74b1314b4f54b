"""Answers that are to be an instance of a class: pydantic's, or a JSON schema as a dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core import Finish, RequestError
from .types import ClientError, Reply


def json_schema(schema: Any) -> Mapping[str, Any]:
    if isinstance(schema, Mapping):
        return schema
    if isinstance(schema, type) and hasattr(schema, "model_json_schema") and hasattr(schema, "model_validate_json"):
        found: Mapping[str, Any] = schema.model_json_schema()
        return found
    raise RequestError(f"schema must be a pydantic class or a JSON schema as a dict, not {schema!r}.")


def instance(schema: Any, reply: Reply) -> Any:
    """What the answer says, once it is whole."""
    if reply.finish is Finish.LENGTH:
        raise ClientError("The answer was cut off before it was whole; max_tokens= allows more.", reply)
    try:
        return json.loads(reply.text) if isinstance(schema, Mapping) else schema.model_validate_json(reply.text)
    except ValueError as error:  # pydantic's ValidationError is one: a rule that no JSON schema can say
        raise ClientError(f"The answer does not fit the schema: {' '.join(str(error).split())}", reply) from error
