"""Anthropic's own SDK against the server on a socket: what it makes of our events is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from .scripted import ScriptedEngine, server
from .test_dialects import running

THINKS = "<think>Hm.</think>Hello"
ASKED: dict[str, Any] = {"model": "scripted", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}


def with_sdk(engine: ScriptedEngine, test: Callable[[anthropic.AsyncAnthropic], Awaitable[Any]], **config: Any) -> Any:
    async def inside() -> Any:
        own, _ = server(engine, **config)
        async with (
            running(own) as client,
            anthropic.AsyncAnthropic(base_url=str(client.base_url), api_key="secret", max_retries=0) as sdk,
        ):
            return await test(sdk)

    return asyncio.run(asyncio.wait_for(inside(), 60))


def plain(message: Message) -> Any:
    """All but what is new each time."""
    return message.model_dump(exclude={"id", "usage"}, exclude_none=True)


def test_a_stream_adds_up_to_the_whole_message() -> None:
    async def test(sdk: anthropic.AsyncAnthropic) -> tuple[Message, Message, str]:
        whole = await sdk.messages.create(**ASKED, thinking={"type": "adaptive"})
        async with sdk.messages.stream(**ASKED, thinking={"type": "adaptive"}) as stream:
            said = "".join([text async for text in stream.text_stream])
            return whole, await stream.get_final_message(), said

    whole, streamed, said = with_sdk(ScriptedEngine(THINKS, cached=2), test)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert (said, plain(streamed)) == ("Hello", plain(whole))
    assert streamed.usage.model_dump(exclude_none=True) == whole.usage.model_dump(exclude_none=True)
    assert whole._request_id is not None


CALLS = "".join(
    f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>\n'
    for city in ("Zürich", "Bern")
)
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_calls_and_their_results() -> None:
    async def test(sdk: anthropic.AsyncAnthropic) -> tuple[Message, Message, int, Message]:
        asked = {**ASKED, "max_tokens": 500, "tools": [WEATHER]}
        whole = await sdk.messages.create(**asked)
        async with sdk.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "sun"}
            for block in whole.content
            if block.type == "tool_use"
        ]
        asked["messages"] = [
            *ASKED["messages"],
            {"role": "assistant", "content": whole.content},
            {"role": "user", "content": results},
        ]
        after = await sdk.messages.create(**asked)
        del asked["max_tokens"]
        return whole, streamed, (await sdk.messages.count_tokens(**asked)).input_tokens, after

    whole, streamed, counted, after = with_sdk(ScriptedEngine(f"I look.\n{CALLS}", context=5000), test)
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use"]
    called = [block for block in whole.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in called] == [
        ("weather", {"city": "Zürich"}),
        ("weather", {"city": "Bern"}),
    ]
    assert (whole.stop_reason, streamed.stop_reason) == ("tool_use", "tool_use")
    assert [block.input for block in streamed.content if block.type == "tool_use"] == [block.input for block in called]
    assert counted == after.usage.input_tokens


def test_counting_tokens() -> None:
    async def test(sdk: anthropic.AsyncAnthropic) -> tuple[int, Message]:
        asked = {**ASKED, "system": "Be brief."}
        message = await sdk.messages.create(**asked)
        del asked["max_tokens"]
        return (await sdk.messages.count_tokens(**asked)).input_tokens, message

    counted, message = with_sdk(ScriptedEngine(), test)
    assert counted == message.usage.input_tokens


@pytest.mark.parametrize(
    ("fields", "config", "error"),
    [
        ({"model": "other"}, {}, anthropic.NotFoundError),
        ({"messages": []}, {}, anthropic.BadRequestError),
        ({"messages": [{"role": "user", "content": "a" * 2000}]}, {}, anthropic.BadRequestError),
        ({}, {"key": "another"}, anthropic.AuthenticationError),
        ({}, {"max_concurrent": 0}, anthropic.RateLimitError),
    ],
)
def test_errors_are_of_its_classes(fields: dict[str, Any], config: dict[str, Any], error: type[Exception]) -> None:
    async def test(sdk: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(error) as raised:
            await sdk.messages.create(**{**ASKED, **fields})
        assert isinstance(raised.value, anthropic.APIStatusError)
        assert raised.value.body["type"] == "error"  # type: ignore[index]  # the SDK calls it an object
        assert raised.value.request_id is not None

    with_sdk(ScriptedEngine(), test, **config)
