"""Other people's programs against a real process: npm's openai, the AI SDK, litellm. `make clients` installs them.

Chats go to the starter model. Tools go to the model that MLXRUN_TEST_CODER names, such as a Qwen coder as a GGUF file.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
