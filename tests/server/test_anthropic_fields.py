"""Every field of the installed SDK's request types has a verdict in our table: honoured, ignored, refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import pytest
from anthropic import types
from anthropic.types import beta
from anthropic.types.beta import message_count_tokens_params as beta_counting
from anthropic.types.beta import message_create_params as beta_creating
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from mlxrun.server.dialects import anthropic_fields as ours

TOOL_FIELDS = {"cache_control", "allowed_callers", "defer_loading", "eager_input_streaming", "input_examples"}

TABLES: list[tuple[type, Mapping[str, Any]]] = [
    (MessageCreateParamsStreaming, ours.MESSAGES),
    (beta_creating.MessageCreateParamsStreaming, ours.MESSAGES),
    (types.MessageCountTokensParams, ours.COUNT_TOKENS),
    (beta_counting.MessageCountTokensParams, ours.COUNT_TOKENS),
    (types.UserMessageParam, ours.MESSAGE),
    (types.AssistantMessageParam, ours.MESSAGE),
    (types.SystemMessageParam, ours.MESSAGE),
    (types.TextBlockParam, ours.TEXT_BLOCK),
    (types.ImageBlockParam, ours.IMAGE),
    (types.DocumentBlockParam, ours.DOCUMENT),
    (types.SearchResultBlockParam, ours.SEARCH_RESULT),
    (types.ToolReferenceBlockParam, ours.TOOL_REFERENCE),
    (types.ToolResultBlockParam, ours.TOOL_RESULT),
    (types.ToolUseBlockParam, ours.TOOL_USE),
    (types.ThinkingBlockParam, ours.THINKING_BLOCK),
    (types.RedactedThinkingBlockParam, ours.REDACTED),
    (types.OutputConfigParam, ours.OUTPUT_CONFIG),
    (beta.BetaOutputConfigParam, ours.OUTPUT_CONFIG),
]
OPTIONS: list[tuple[type, Mapping[str, Any]]] = [
    (types.ThinkingConfigEnabledParam, ours.THINKING),
    (types.ThinkingConfigAdaptiveParam, ours.THINKING),
    (types.ThinkingConfigBetweenToolsParam, ours.THINKING),
    (types.ThinkingConfigDisabledParam, ours.THINKING),
    (types.ToolChoiceAutoParam, ours.TOOL_CHOICE),
    (types.ToolChoiceAnyParam, ours.TOOL_CHOICE),
    (types.ToolChoiceToolParam, ours.TOOL_CHOICE),
    (types.ToolChoiceNoneParam, ours.TOOL_CHOICE),
    (types.JSONOutputFormatParam, ours.FORMAT),
]


def flat() -> Iterator[Any]:
    for params, table in TABLES:
        yield pytest.param(params, table["properties"], id=f"{params.__module__}.{params.__name__}")
    for params, options in OPTIONS:
        (kind,) = get_type_hints(params)["type"].__args__
        table = next(one for one in options["oneOf"] if kind in one["properties"]["type"]["enum"])
        yield pytest.param(params, table["properties"], id=params.__name__)


@pytest.mark.parametrize(("params", "known"), list(flat()))
def test_every_field_of_the_sdk_has_a_verdict(params: type, known: Mapping[str, Any]) -> None:
    missing = set(get_type_hints(params)) - set(known)
    assert not missing, f"{params.__name__} has fields without a verdict: {sorted(missing)}"


def test_a_tools_fields_are_all_known() -> None:
    """What says where and when a tool is loaded cannot change what it is."""
    assert set(get_type_hints(types.ToolParam)) == set(ours.TOOL["properties"]) | TOOL_FIELDS


def test_the_kinds_of_blocks_that_are_not_taken() -> None:
    """These come only of tools that run on Anthropic's machines, or name files there."""
    taken = {kind for block in ours.BLOCKS for kind in block["properties"]["type"]["enum"]}
    kinds = {
        kind
        for block in types.content_block_param.ContentBlockParam.__args__  # type: ignore[attr-defined]  # a Union
        for kind in get_type_hints(block)["type"].__args__
    }
    assert taken <= kinds
    assert kinds - taken == {
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
    }
