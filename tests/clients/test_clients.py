"""Other people's programs against a real process: npm's openai, the AI SDK, litellm. `make clients` installs them.

Chats go to the starter model. Tools go to the model that MLXRUN_TEST_CODER names, such as a Qwen coder as a GGUF file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.process import SECONDS, Serving, serving

CODER = os.environ.get("MLXRUN_TEST_CODER")
FOLDER = Path(os.environ.get("MLXRUN_TEST_CLIENTS", "build/clients"))
HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not (FOLDER / "node_modules").is_dir(), reason=f"the clients are not installed in {FOLDER}: make clients"
)


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[Serving]:
    place = CODER or str(request.getfixturevalue("smollm2_gguf"))
    with serving(place, "--name", "model") as found:
        yield found


@pytest.fixture(scope="module")
def told(own: Serving) -> dict[str, dict[str, Any]]:
    """What every case of `chat.mjs` got."""
    script = FOLDER / "chat.mjs"  # beside node_modules, where Node looks for packages
    script.write_text((HERE / "chat.mjs").read_text(encoding="utf-8"), encoding="utf-8")
    asked = ["node", str(script), f"{own.url}/v1", "model", "calls" if CODER else "none"]
    ran = subprocess.run(asked, capture_output=True, text=True, timeout=10 * SECONDS)
    assert ran.returncode == 0, ran.stderr
    return {one.pop("case"): one for one in map(json.loads, ran.stdout.splitlines())}


def test_four_ways_to_the_same_words(told: dict[str, dict[str, Any]]) -> None:
    ways = [told[way] for way in ("openai chat", "openai stream", "ai generateText", "ai streamText")]
    assert len({way["text"] for way in ways}) == 1
    assert {way["tokens"] for way in ways} == {8}
    assert told["ai generateText"]["finish"] == "length"


def test_vectors(told: dict[str, dict[str, Any]]) -> None:
    sizes, first = told["openai embeddings"]["sizes"], told["openai embeddings"]["first"]
    assert sizes == [told["ai embed"]["size"]] * 2
    assert abs(first - told["ai embed"]["first"]) < 1e-6


@pytest.mark.skipif(CODER is None, reason="MLXRUN_TEST_CODER names no model that calls tools")
def test_tools(told: dict[str, dict[str, Any]]) -> None:
    call = told["openai tools"]
    assert (call["name"], list(call["arguments"]), call["finish"]) == ("get_weather", ["city"], "tool_calls")
    agent = told["ai tools"]
    assert (len(agent["ran"]), agent["steps"]) == (1, 2)
    assert agent["text"]


LITELLM = """
import json, sys, litellm
url, calls = sys.argv[1:]
asked = dict(model="openai/model", api_base=url, api_key="none", temperature=0, num_retries=0, timeout=600)
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
whole = litellm.completion(messages=messages, max_tokens=8, **asked)
stream = litellm.completion(messages=messages, max_tokens=8, stream=True, **asked)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
vectors = litellm.embedding(model="openai/model", input=["one"], api_base=url, api_key="none")
told = {"whole": whole.choices[0].message.content, "stream": "".join(pieces), "size": len(vectors.data[0]["embedding"])}
if calls == "calls":
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]
    choice = {"type": "function", "function": {"name": "get_weather"}}
    called = litellm.completion(messages=messages, tools=tools, tool_choice=choice, max_tokens=60, **asked)
    call = called.choices[0].message.tool_calls[0]
    told |= {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
print(json.dumps(told))
"""


def test_litellm(own: Serving) -> None:
    python = FOLDER / "venv/bin/python"
    if not python.exists():
        pytest.skip(f"litellm is not installed in {FOLDER}: make clients")
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it asks the internet for prices
    asked = [str(python), "-c", LITELLM, f"{own.url}/v1", "calls" if CODER else "none"]
    ran = subprocess.run(asked, capture_output=True, text=True, timeout=10 * SECONDS, env=environment)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["whole"] == told["stream"] != ""
    assert told["size"] > 0
    if CODER:
        assert (told["name"], list(told["arguments"])) == ("get_weather", ["city"])


KEY = "sk-0123456789abcdef0123456789abcdef"  # the proxy starts with none but a long one


@pytest.fixture(scope="module")
def proxy(own: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """litellm as other people's gateway before our server; its address."""
    program = FOLDER / "venv/bin/litellm"
    if not program.exists():
        pytest.skip(f"litellm's proxy is not installed in {FOLDER}: make clients")
    told = {"model": "openai/model", "api_base": f"{own.url}/v1", "api_key": "none"}
    config = tmp_path_factory.mktemp("litellm") / "config.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": [{"model_name": "gateway", "litellm_params": told}]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while not lives(url):
            assert process.poll() is None, "litellm's proxy did not start"
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)


def lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness", timeout=SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def test_litellms_proxy(proxy: str) -> None:
    client = openai.OpenAI(base_url=f"{proxy}/v1", api_key=KEY, max_retries=0, timeout=10 * SECONDS)
    asked: dict[str, Any] = {"model": "gateway", "messages": [{"role": "user", "content": "Hi"}]}
    asked |= {"max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole.choices[0].message.content == said != ""
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    headers = {"authorization": f"Bearer {KEY}"}
    asked["max_tokens"] = 16  # the gateway asks our Responses, and for fewer never
    message = httpx.post(f"{proxy}/v1/messages", json=asked, headers=headers, timeout=10 * SECONDS).json()
    assert message["content"][0]["text"].startswith(said)
