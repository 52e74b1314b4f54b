"""OpenAI's own SDK against the server on a socket: what it makes of our responses and events is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from .scripted import ScriptedEngine, server
from .test_dialects import running

THINKS = "Hm.</think>Hello"  # the template opens the thoughts


class City(BaseModel):
    name: str
    people: int


def with_sdk(engine: ScriptedEngine, test: Callable[[openai.AsyncOpenAI], Awaitable[Any]], **config: Any) -> Any:
    async def inside() -> Any:
        own, _ = server(engine, **config)
        async with (
            running(own) as client,
            openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="secret", max_retries=0) as sdk,
        ):
            return await test(sdk)

    return asyncio.run(asyncio.wait_for(inside(), 60))


def plain(response: Response) -> Any:
    """All but what is new each time."""
    told = response.to_dict()
    items = [{key: value for key, value in item.items() if key != "id"} for item in told["output"]]
    left = {key: value for key, value in told.items() if key not in ("id", "created_at", "completed_at")}
    return {**left, "output": items}


def test_a_stream_adds_up_to_the_whole_response() -> None:
    async def test(sdk: openai.AsyncOpenAI) -> tuple[Response, Any]:
        asked: dict[str, Any] = {"model": "scripted", "input": "Hi", "reasoning": {"summary": "auto", "effort": "low"}}
        whole = await sdk.responses.create(**asked)
        stream = await sdk.responses.create(**asked, stream=True)
        return whole, [event async for event in stream]

    whole, events = with_sdk(ScriptedEngine("Hm.</think>Hello", cached=2), test)  # an effort opens the thoughts
    assert whole.output_text == "Hello"
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output[0].summary[0].text == "Hm."
    assert plain(events[-1].response) == plain(whole)
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens == len("Hm.</think>")
    assert all(type(event).__name__.endswith("Event") for event in events)


def test_the_sdks_accumulator_agrees() -> None:
    async def test(sdk: openai.AsyncOpenAI) -> tuple[Any, str]:
        said = ""
        async with sdk.responses.stream(model="scripted", input="Hi", max_output_tokens=100) as stream:
            async for event in stream:
                said += event.delta if event.type == "response.output_text.delta" else ""
            return await stream.get_final_response(), said

    final, said = with_sdk(ScriptedEngine("Hello"), test)
    assert final.output_text == said == "Hello"
    assert (final.status, final.max_output_tokens) == ("completed", 100)


def test_an_answer_is_parsed() -> None:
    async def test(sdk: openai.AsyncOpenAI) -> Any:
        whole = await sdk.responses.parse(model="scripted", input="Rome?", text_format=City)
        async with sdk.responses.stream(model="scripted", input="Rome?", text_format=City) as stream:
            return whole, await stream.get_final_response()

    for told in with_sdk(ScriptedEngine('{"name": "Rome", "people": 2748109}'), test):
        assert told.output_parsed == City(name="Rome", people=2748109)


def test_a_conversation_that_the_server_keeps() -> None:
    """As agent kits do it: only what is new is sent."""

    async def test(sdk: openai.AsyncOpenAI) -> None:
        first = await sdk.responses.create(
            model="scripted", input="One", instructions="Be brief.", truncation="disabled"
        )
        second = await sdk.responses.create(model="scripted", input="Two", previous_response_id=first.id, store=True)
        assert second.previous_response_id == first.id
        assert (await sdk.responses.retrieve(first.id)).output_text == "Hello"
        items = await sdk.responses.input_items.list(second.id, order="asc")
        assert [item.type async for item in items] == ["message"] * 3
        counted = await sdk.responses.input_tokens.count(model="scripted", input="Two", previous_response_id=first.id)
        assert second.usage is not None
        assert counted.input_tokens == second.usage.input_tokens
        await sdk.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.responses.create(model="scripted", input="Three", previous_response_id=second.id)
        assert refused.value.code == "previous_response_not_found"

    with_sdk(ScriptedEngine("Hello"), test)


def test_errors_are_the_sdks_own() -> None:
    async def test(sdk: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as long:
            await sdk.responses.create(model="scripted", input="x" * 100)
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.create(model="nobody", input="x")
        with pytest.raises(openai.BadRequestError):
            await sdk.responses.cancel("resp_1")

    with_sdk(ScriptedEngine(context=50), test)
