"""OpenAI's own SDK against chats on a socket: what it parses of an answer, whole and streamed, is the oracle."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ParsedChatCompletion

from .scripted import ScriptedEngine
from .test_responses_sdk import City, with_sdk

ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Rome?"}]}
ROME = City(name="Rome", people=2748109)


def test_an_answer_is_parsed() -> None:
    engine = ScriptedEngine(ROME.model_dump_json())

    async def test(sdk: openai.AsyncOpenAI) -> None:
        whole = await sdk.chat.completions.parse(**ASKED, response_format=City)
        async with sdk.chat.completions.stream(**ASKED, response_format=City) as stream:
            steps = [event.parsed async for event in stream if event.type == "content.delta"]
            streamed = await stream.get_final_completion()
        assert [told.choices[0].message.parsed for told in (whole, streamed)] == [ROME, ROME]
        assert steps[-1] == ROME.model_dump()

    with_sdk(engine, test)
    for request in engine.asked:
        assert request.constraint is not None
        assert set(json.loads(request.constraint.text)["properties"]) == {"name", "people"}


def test_an_answer_that_was_cut_is_no_city() -> None:
    async def test(sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.LengthFinishReasonError):
            await sdk.chat.completions.parse(**ASKED, response_format=City, max_tokens=5)

    with_sdk(ScriptedEngine(ROME.model_dump_json()), test)


def test_a_call_is_parsed() -> None:
    called = json.dumps({"name": "City", "arguments": ROME.model_dump()})

    async def test(sdk: openai.AsyncOpenAI) -> None:
        tools: Any = [openai.pydantic_function_tool(City)]
        whole = await sdk.chat.completions.parse(**ASKED, tools=tools)
        async with sdk.chat.completions.stream(**ASKED, tools=tools) as stream:
            done = [event.parsed_arguments async for event in stream if event.type.endswith("arguments.done")]
            streamed = await stream.get_final_completion()
        assert [arguments_of(told) for told in (whole, streamed)] == [ROME, ROME]
        assert done == [ROME]

    with_sdk(ScriptedEngine(f"<tool_call>\n{called}\n</tool_call>", context=5000), test)


def arguments_of(told: ParsedChatCompletion[Any]) -> Any:
    (call,) = told.choices[0].message.tool_calls or ()
    return call.function.parsed_arguments
