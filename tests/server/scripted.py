"""A server over an engine that says what a script tells it, and a tokenizer of bytes: no model, no weights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import httpx

from mlxrun.assistant import Assistant
from mlxrun.core import Event, Finish, Memory, Request, RequestError, Sampling, TokenLogprob, Usage
from mlxrun.engine.engine import Engine, check
from mlxrun.engine.handle import Handle
from mlxrun.engine.registry import RegistryLimits
from mlxrun.engine.statistics import Statistics
from mlxrun.loading.used import Used
from mlxrun.memory.claim import Claim
from mlxrun.server.app import Server, ServerConfig
from mlxrun.server.dialect import Dialect, Voice
from mlxrun.server.dialects import DIALECTS, PLAINS
from mlxrun.server.models import Models
from mlxrun.text.prompting import Prompter
from mlxrun.text.template import ChatTemplate
from mlxrun.text.tokenizer import Marks, Tokenizer

END = 256
CALL = "{'name': c.function.name, 'arguments': c.function.arguments}"
TEMPLATE = (
    "{% if tools %}tools:{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ m.role }}{% if m.name is defined %}({{ m.name }}){% endif %}:{{ m.content }}"
    "{% for c in m.tool_calls or () %}\n<tool_call>\n{{ " + CALL + " | tojson }}\n</tool_call>{% endfor %}{{ '\n' }}"
    "{% endfor %}{% if enable_thinking %}<think>{% endif %}"
)


class Bytes(Tokenizer):
    vocab_size = 257

    def __init__(self) -> None:
        super().__init__(Marks(None, frozenset({END})))

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> str:
        return chr(token)

    def is_special(self, token: int) -> bool:
        return token == END

    def _spell(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""


@dataclass
class ScriptedEngine:
    """Says `text` to everyone, token by token, at once; if `held`, only when the test posts."""

    text: str = "Hello"
    finish: Finish = Finish.STOP
    reason: str | None = None
    held: bool = False
    cached: int = 0
    context: int = 1000
    fault: str | None = None
    model: Any = field(default_factory=lambda: SimpleNamespace(notes=()))
    handles: list[Handle] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def submit(self, request: Request) -> Handle:
        handle = Handle(request)
        self.handles.append(handle)
        try:
            check(request, Bytes.vocab_size, self.context)
        except RequestError as error:
            handle.post(Event(finish=Finish.REFUSED, reason=str(error), refusal=error.refusal))
            return handle
        if not self.held:
            for event in self.events(request):
                handle.post(event)
        return handle

    def submit_choices(self, request: Request) -> tuple[Handle, ...]:
        self.asked.append(request)
        return tuple(self.submit(replace(request, n=1)) for _ in range(request.n))

    def statistics(self) -> Statistics:
        return Statistics({"passes": 12}, {"waiting": 3, "seconds_between_ends": 2.5})

    def memory(self) -> Memory:
        return Memory(weights=3, cache=2, active=6, peak=7, free=10, total=20)

    @property
    def claim(self) -> Claim:
        return Claim(own=2, mapped=5)

    def close(self) -> None:
        """Whoever asks still gets an answer."""

    def used(self) -> Used:
        return Used("a script's", mapped=5, files=1, own=2, why_not_wired="there is nothing to wire")

    def events(self, request: Request) -> Iterator[Event]:
        said = list(self.text.encode())[: request.max_tokens]
        for token in said:
            yield Event((token,), self.logprobs(request, token))
        short = len(said) < len(self.text.encode())
        usage = Usage(len(request.tokens), self.cached, len(said), 0.5, 0.1)
        yield Event(finish=Finish.LENGTH if short else self.finish, reason=self.reason, usage=usage)

    def logprobs(self, request: Request, token: int) -> tuple[TokenLogprob, ...]:
        """-1 for what is said; of the alternatives it is the best, and the next byte is impossible."""
        wanted = request.sampling.logprobs
        if wanted is None:
            return ()
        return (TokenLogprob(-1.0, ((token, -1.0), (token + 1, float("-inf")))[:wanted]),)


def assistant_of(name: str, engine: ScriptedEngine, template: str | None = TEMPLATE) -> Assistant:
    chat = ChatTemplate({} if template is None else {"default": template}, {}, model="Scripted")
    return Assistant(name, cast(Engine, engine), Prompter(Bytes(), chat))


def server(
    engine: ScriptedEngine | None = None,
    template: str | None = TEMPLATE,
    dialects: Sequence[Dialect] = DIALECTS,
    **config: Any,
) -> tuple[Server, ScriptedEngine]:
    engine = engine or ScriptedEngine()
    given = {"sampling": Sampling(temperature=0.7), **config}
    name, plains = given.pop("name", "scripted"), given.pop("plains", PLAINS)
    pulls = given.pop("pulls", None)
    voice = Voice(assistant_of(name, engine, template), name, given["sampling"])
    models = Models(lambda name, beside: voice, lambda: (name,), name, RegistryLimits(pinned=frozenset({name})))
    models.registry.hold(name, voice)
    return Server(models, ServerConfig(**given), dialects, plains, pulls=pulls), engine


def ask(own: Server, path: str, body: Any = None, *, method: str | None = None, **more: Any) -> httpx.Response:
    """One request, in this process; a body that is not bytes is sent as JSON."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(own.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            return await client.request(method or ("GET" if body is None else "POST"), path, content=content, **more)

    return asyncio.run(send())


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object, its shape checked: one sentence, and the fields that clients read."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    assert "Traceback" not in error["message"]
    return error


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, its frame checked."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *frames, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames if not frame.startswith(":")]


def chat(own: Server, text: str = "Hi", **fields: Any) -> httpx.Response:
    return ask(own, "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **fields})


def complete(own: Server, prompt: Any = "Hi", **fields: Any) -> httpx.Response:
    return ask(own, "/v1/completions", {"prompt": prompt, **fields})
