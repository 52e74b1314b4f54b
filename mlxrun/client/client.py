"""One interface to a model: `chat`, `stream`, `complete`, waiting or async, wherever the model runs.

It knows neither engine nor HTTP: a `Transport` brings the pieces of one answer at a time. What makes no
sense is refused here, before anything is sent, so both transports refuse alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar, Unpack, overload

from ..core import Finish, Memory, RequestError
from ..turns import Tool
from .asynchronous import AsyncStream
from .options import AnswerOptions, Options
from .readings import Readings, Transport
from .shaped import instance, json_schema
from .stream import Stream
from .tools import Function, Functions
from .types import Asking, ClientError, Held, Message, ModelInfo, Reply, conversation

COMPLETION_TOKENS = 256  # a text that goes on has no end by itself
MOST = 8  # answers to one prompt
ROUNDS = 8  # in which tools may be called
Shaped = TypeVar("Shaped")


class Client(Readings):
    """A model that answers. `mlxrun.load` and `mlxrun.connect` make one; `with` closes it."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self._closed = transport, False

    def __repr__(self) -> str:
        return f"Client({self.model!r}{', closed' * self._closed})"

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: type[Shaped],
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Shaped: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: Mapping[str, Any],
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Any: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: None = None,
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Reply: ...

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: Any = None,
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Any:
        """The answer to a question, or to a conversation as a list of messages.

        >>> model.chat("What is the capital of France?", temperature=0, max_tokens=40).text
        'The capital of France is Paris.'

        `system` says how it should answer. `schema` is a pydantic class, of which an instance comes back, or a JSON
        schema as a dict, of which the value does:

        >>> model.chat("Name a colour.", temperature=0, schema={"enum": ["red", "blue"]}) in ("red", "blue")
        True

        `tools` are Python functions that the model may call, in at most `rounds` rounds; the reply's `ran` tells what
        they were asked and gave. The model must have been trained to call tools; the starter was not:

        >>> def weather(city: str) -> str:
        ...     "The weather in a city."
        ...     return "sunny"
        >>> model.chat("How is the weather in Rome?", tools=[weather])
        Traceback (most recent call last):
            ...
        mlxrun.core.RequestError: ... cannot call tools: its chat template has no known form for calls. ...
        """
        wanted, functions = wanted_of(schema, options), Functions(tools)

        def ask(said: Sequence[Message], may_call: bool = True) -> Reply:
            return self._whole([Asking(wanted, tuple(said), tools=functions.tools if may_call else ())])[0]

        said = conversation(messages, system)
        reply = functions.answered(ask, said, rounds) if functions.tools else ask(said)
        return reply if schema is None else instance(schema, reply)

    def chat_many(
        self,
        messages: str | Sequence[Message],
        count: int,
        *,
        system: str | None = None,
        **options: Unpack[AnswerOptions],
    ) -> list[Reply]:
        """Several answers to the same, drawn apart and computed together.

        >>> replies = model.chat_many("Name a fruit.", 3, seed=1, max_tokens=8)
        >>> len(replies)
        3
        """
        return self._whole(several(Asking(Options.of(options), conversation(messages, system)), count))

    def complete(self, prompt: str | Sequence[int], **options: Unpack[AnswerOptions]) -> Reply:
        """How a text (or token ids) goes on, without a chat template.

        >>> model.complete("One, two, three,", temperature=0, max_tokens=2).text
        ' four,'
        """
        return self._whole([completion(prompt, options)])[0]

    def complete_many(self, prompt: str | Sequence[int], count: int, **options: Unpack[AnswerOptions]) -> list[Reply]:
        """Several ways how it goes on.

        >>> [reply.usage.output_tokens for reply in model.complete_many("Once", 2, seed=1, max_tokens=4)]
        [4, 4]
        """
        return self._whole(several(completion(prompt, options), count))

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        tools: Sequence[Tool] = (),
        **options: Unpack[AnswerOptions],
    ) -> Stream:
        """The same as `chat`, in pieces as they come. Whoever stops reading ends the answer.

        `tools` are what the model may ask for, as `mlxrun.turns.Tool`: a name, a description, a JSON schema. Nothing is
        run here; what it asks for are parts of the pieces, and the reply's `calls`.

        >>> with model.stream("Count to three.", temperature=0, max_tokens=5) as stream:
        ...     text = "".join(piece.content for piece in stream)
        >>> text == stream.reply.text
        True
        """
        return self._stream(Asking(Options.of(options), conversation(messages, system), tools=tuple(tools)))

    def stream_complete(self, prompt: str | Sequence[int], **options: Unpack[AnswerOptions]) -> Stream:
        """The same as `complete`, in pieces.

        >>> len(list(model.stream_complete("One, two,", max_tokens=3))) > 0
        True
        """
        return self._stream(completion(prompt, options))

    @overload
    async def achat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: type[Shaped],
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Shaped: ...

    @overload
    async def achat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: Mapping[str, Any],
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Any: ...

    @overload
    async def achat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: None = None,
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Reply: ...

    async def achat(
        self,
        messages: str | Sequence[Message],
        *,
        schema: Any = None,
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[AnswerOptions],
    ) -> Any:
        """`chat` for asyncio. Tools run on threads; those that are `async` are awaited.

        >>> asyncio.run(model.achat("What is the capital of France?", temperature=0, max_tokens=40)).text
        'The capital of France is Paris.'
        >>> asyncio.run(model.achat("Yes or no?", temperature=0, schema={"enum": ["yes", "no"]})) in ("yes", "no")
        True
        """
        wanted, functions = wanted_of(schema, options), Functions(tools)

        async def ask(said: Sequence[Message], may_call: bool = True) -> Reply:
            lent = functions.tools if may_call else ()
            return (await self._awhole([Asking(wanted, tuple(said), tools=lent)]))[0]

        said = conversation(messages, system)
        reply = await (functions.aanswered(ask, said, rounds) if functions.tools else ask(said))
        return reply if schema is None else instance(schema, reply)

    async def achat_many(
        self,
        messages: str | Sequence[Message],
        count: int,
        *,
        system: str | None = None,
        **options: Unpack[AnswerOptions],
    ) -> list[Reply]:
        """`chat_many` for asyncio.

        >>> len(asyncio.run(model.achat_many("Name a fruit.", 2, max_tokens=4)))
        2
        """
        return await self._awhole(several(Asking(Options.of(options), conversation(messages, system)), count))

    async def acomplete(self, prompt: str | Sequence[int], **options: Unpack[AnswerOptions]) -> Reply:
        """`complete` for asyncio.

        >>> asyncio.run(model.acomplete("One, two, three,", temperature=0, max_tokens=2)).text
        ' four,'
        """
        return (await self._awhole([completion(prompt, options)]))[0]

    def astream(
        self, messages: str | Sequence[Message], *, system: str | None = None, **options: Unpack[AnswerOptions]
    ) -> AsyncStream:
        """`stream` for asyncio.

        >>> async def count():
        ...     async with model.astream("Hi", max_tokens=3) as stream:
        ...         return len([piece async for piece in stream])
        >>> asyncio.run(count()) > 0
        True
        """
        return AsyncStream(self.stream(messages, system=system, **options))

    def astream_complete(self, prompt: str | Sequence[int], **options: Unpack[AnswerOptions]) -> AsyncStream:
        """`stream_complete` for asyncio.

        >>> asyncio.run(model.astream_complete("One, two,", max_tokens=3).whole()).usage.output_tokens
        3
        """
        return AsyncStream(self.stream_complete(prompt, **options))

    def models(self) -> list[ModelInfo]:
        """The models that are here, or that the server has.

        >>> any(info.loaded for info in model.models())
        True
        """
        return self._transport.models()

    def memory(self) -> Memory | None:
        """Bytes of weights, of what sequences remember, free and in all; None where a server does not tell.

        >>> memory = model.memory()
        >>> 0 < memory.weights < memory.total
        True
        """
        memory = self._transport.memory()
        return None if memory is None else Held(**asdict(memory))

    def statistics(self) -> Mapping[str, Any] | None:
        """What the engine has counted since it began: `totals` (passes, tokens, drafts that were right), how things
        stand `now`, and the `seconds` that passes take; None where a server does not tell.

        >>> model.statistics()["totals"]["passes"] > 0
        True
        """
        return self._transport.statistics()

    def close(self) -> None:
        """A model that was loaded gives its memory back; a server goes on.

        >>> with mlxrun.load("smollm2") as other:
        ...     other.model
        'smollm2'
        >>> other
        Client('smollm2', closed)
        """
        self._closed = True
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, ask: Asking) -> Stream:
        self._must_be_open()
        return Stream(self._transport.ask(ask))

    def _whole(self, asks: Sequence[Asking]) -> list[Reply]:
        streams = [self._stream(ask) for ask in asks]
        try:
            if len(streams) == 1:
                return [read(streams[0])]
            with ThreadPoolExecutor(len(streams)) as pool:
                return list(pool.map(read, streams))
        finally:
            for stream in streams:
                stream.cancel()

    async def _awhole(self, asks: Sequence[Asking]) -> list[Reply]:
        streams = [AsyncStream(self._stream(ask)) for ask in asks]
        try:
            for stream in streams:
                stream.start()
            return [good(await stream.whole()) for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()


def wanted_of(schema: Any, options: Mapping[str, Any]) -> Options:
    return Options.of(dict(options) if schema is None else {**options, "json_schema": json_schema(schema)})


def several(ask: Asking, count: int) -> list[Asking]:
    if not isinstance(count, int) or not 1 <= count <= MOST:
        raise RequestError(f"count must be a whole number from 1 to {MOST}, not {count!r}.")
    return [Asking(ask.options.one(index), ask.messages, ask.prompt) for index in range(count)]


def completion(prompt: str | Sequence[int], options: Mapping[str, Any]) -> Asking:
    if not isinstance(prompt, str | list | tuple):
        raise RequestError(f"prompt must be text, not {type(prompt).__name__}.")
    return Asking(Options.of({"max_tokens": COMPLETION_TOKENS, **options}), prompt=prompt)


def read(stream: Stream) -> Reply:
    for _ in stream:
        pass
    return good(stream.reply)


def good(reply: Reply) -> Reply:
    if reply.finish is Finish.REFUSED:
        raise RequestError(reply.reason or "The request was refused.")
    if reply.finish in (Finish.FAILED, Finish.EXPIRED):
        raise ClientError(reply.reason or "The answer broke off.", reply)
    return reply
