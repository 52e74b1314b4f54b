"""SmolLM2 in a process of its own, as other people's programs meet it: the openai package, and curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from typing import Any

import openai
import pytest

from .process import SECONDS, Serving

MESSAGES: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ASKED: dict[str, Any] = {"model": "smollm2", "messages": MESSAGES, "temperature": 0, "max_tokens": 7}
SAID = "The capital of France is Paris."


@pytest.fixture(scope="module")
def client(smollm2: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)


def test_a_conversation(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (SAID, "length")
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details is None) == (7, False)
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == SAID
    assert all(token.top_logprobs[0].token == token.token for token in tokens)  # greedy
    assert all(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob for token in tokens)


def test_a_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


def test_several_clients_at_once(smollm2: Serving) -> None:
    async def one(client: openai.AsyncOpenAI, stream: bool) -> str:
        if not stream:
            return (await client.chat.completions.create(**ASKED)).choices[0].message.content or ""
        chunks = await client.chat.completions.create(**ASKED, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{smollm2.url}/v1", api_key="none", timeout=SECONDS, max_retries=0
        ) as client:
            return await asyncio.gather(*(one(client, stream=bool(i % 2)) for i in range(4)))

    assert asyncio.run(all_of_them()) == [SAID] * 4


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    asked: dict[str, Any] = {"model": "smollm2", "temperature": 0, "max_tokens": 3}
    answer = client.completions.create(prompt=prompt, logprobs=1, **asked)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    chunks = client.completions.create(prompt=prompt, stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    # a prompt that the server holds already, whole and with what it answered itself
    assert client.completions.create(prompt=prompt, **asked).choices[0].text == choice.text
    assert client.completions.create(prompt=prompt + choice.text, **asked).choices[0].text


def test_a_stop_string_inside_tokens(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**ASKED, stop="ital of F").choices[0]
    assert (choice.message.content, choice.finish_reason) == ("The cap", "stop")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2"]
    assert client.models.retrieve("smollm2").id == "smollm2"


def test_errors_are_those_of_the_package(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'smollm2' is served"):
        client.chat.completions.create(**{**ASKED, "model": "gpt-4"})
    with pytest.raises(openai.BadRequestError, match="cannot call tools"):
        client.chat.completions.create(**ASKED, tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(openai.BadRequestError, match="no room"):
        client.completions.create(model="smollm2", prompt="a b" * 9000)


def test_a_message_cannot_end_itself(client: openai.OpenAI) -> None:
    def read(content: str) -> int:
        answer = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": content}], max_tokens=1
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert read("<|im_end|>") - read("") == 7  # spelled out, as "<", "|", "im", "_", "end", "|", ">"


# each of these ends or wedges a server in use, or makes it answer something else than was asked
DEADLY: list[tuple[dict[str, Any], int]] = [
    ({"prompt": ""}, 400),
    ({"prompt": "a", "top_k": 10**9, "temperature": 1}, 200),
    ({"prompt": "a", "xtc_threshold": 0.5, "xtc_probability": 1.0, "temperature": 1}, 200),
    ({"prompt": "a", "mirostat": 2, "mirostat_tau": 1e-30, "mirostat_eta": 1, "temperature": 100}, 200),
    ({"prompt": "a" * 400, "dry_multiplier": 100, "dry_base": 4, "dry_allowed_length": 1, "max_tokens": 90}, 200),
    ({"prompt": "a", "repetition_penalty": 1e-30, "temperature": 1}, 200),
    ({"prompt": "a", "repetition_penalty": 10, "presence_penalty": -2, "frequency_penalty": -2, "temperature": 1}, 200),
    ({"prompt": "a", "top_n_sigma": 1e-30, "typical_p": 1e-30, "temperature": 1}, 200),
    ({"prompt": "a", "logit_bias": {str(i): -100 for i in range(1024)}}, 200),
    ({"prompt": "a", "stop": [1]}, 400),
    ({"prompt": "a", "stop": 5}, 400),
    ({"prompt": ["a", "b"]}, 200),
    ({"prompt": "a", "logit_bias": {"999999999": 5}}, 400),
    ({"prompt": "a", "seed": 2**70}, 400),
    ({"prompt": "a", "seed": 2**64 - 1, "temperature": 1}, 200),
    ({"prompt": "a", "max_tokens": True}, 400),
    ({"prompt": "a", "temperature": 100, "min_p": 1}, 200),
    ({"prompt": "a", "temperature": 1e-30}, 200),
    ({"prompt": "a", "top_p": 1e-30, "temperature": 1}, 200),
    ({"prompt": "a", "response_format": {"type": "json_object"}}, 200),
    ({"prompt": [49151]}, 200),
    ({"prompt": [49152]}, 400),
    ({"prompt": "\x00"}, 200),
    ({"prompt": "<|im_start|>"}, 200),
]


@pytest.mark.parametrize(("body", "status"), DEADLY, ids=lambda value: str(value)[:60])
def test_payloads_that_kill_servers(body: dict[str, Any], status: int, smollm2: Serving) -> None:
    answer = smollm2.post("/v1/completions", {"max_tokens": 1, **body})
    assert answer.status_code == status, answer.text
    assert smollm2.answers()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl(smollm2: Serving) -> None:
    def curl(*arguments: str) -> bytes:
        return subprocess.run(["curl", "-sN", *arguments], capture_output=True, timeout=SECONDS, check=True).stdout

    body = json.dumps({**ASKED, "stream": True})
    frames = curl(f"{smollm2.url}/v1/chat/completions", "-d", body).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame[6:]) for frame in frames[:-2] if not frame.startswith(":")]
    said = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(said) == SAID
    refused = curl(f"{smollm2.url}/v1/chat/completions", "--data-binary", "\xff{", "-w", "%{http_code}")
    assert refused.endswith(b"400")
    assert b'"status":"ok"' in curl(f"{smollm2.url}/health")
