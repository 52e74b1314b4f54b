"""Every field of the SDK's Responses has a verdict in our schemas: a new release that brings one fails here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openai.types.responses import input_token_count_params as counted
from openai.types.responses import response_compact_params as compacted
from openai.types.responses import response_create_params as created

from mlxrun.server.dialects.responses_compact import COMPACT
from mlxrun.server.dialects.responses_fields import COUNTED, RESPONSE
from mlxrun.server.left_out import is_hosted

from .sdk_types import without_verdict

# kinds of objects that are a 400 by their name
FILES = {f"input[].{place}[]<type=input_file>" for place in ("content", "output")}
ITEMS = {  # calls of hosted tools and what came of them, and what this server never makes
    *("apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction_trigger"),
    *("computer_call", "computer_call_output", "configuration_update", "file_search_call", "image_generation_call"),
    *("local_shell_call", "local_shell_call_output", "mcp_approval_request", "mcp_approval_response", "mcp_call"),
    *("mcp_list_tools", "program", "program_output", "shell_call", "shell_call_output", "tool_search_call"),
    *("tool_search_output", "web_search_call"),
}
UNSAID = {"input[].type=item_reference"}  # of an item that does not say its type; it is a message's here
REFUSED = {*FILES, *UNSAID, *(f"input[]<type={kind}>" for kind in ITEMS)}
HOSTED = re.compile(r"(?:tools\[\]|tool_choice)<type=(\w+)>$")  # left out, or refused where they are insisted on

TABLE = [
    (RESPONSE, created.ResponseCreateParamsNonStreaming),
    (RESPONSE, created.ResponseCreateParamsStreaming),
    (COUNTED, counted.InputTokenCountParams),
    (COMPACT, compacted.ResponseCompactParams),
]


@pytest.mark.parametrize(("schema", "kind"), TABLE)
def test_every_field_has_a_verdict(schema: Any, kind: Any) -> None:
    missing = {*without_verdict(kind, schema)}
    hosted = {path for path in missing if (found := HOSTED.search(path)) and is_hosted(found[1])}
    assert missing - hosted == REFUSED


def test_what_is_not_heeded_is_told_in_our_document() -> None:
    fields = {**RESPONSE["properties"], **COUNTED["properties"]}
    assert {name for name, schema in fields.items() if "description" not in schema} <= {"reasoning", "text"}
