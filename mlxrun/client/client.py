"""One interface to a model: `chat`, `stream`, `complete`, waiting or async, wherever the model runs.

It knows neither engine nor HTTP: a `Transport` brings the pieces of one answer at a time. What makes no
sense is refused here, before anything is sent, so both transports refuse alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Protocol

from ..core import Finish, Memory, RequestError
from .asynchronous import AsyncStream
from .stream import PieceSource, Stream
from .types import Asking, ClientError, Held, Message, ModelInfo, Options, Reply, conversation

COMPLETION_TOKENS = 256  # a text that goes on has no end by itself


class Transport(Protocol):
    @property
    def model(self) -> str: ...

    def ask(self, ask: Asking) -> PieceSource: ...

    def models(self) -> list[ModelInfo]: ...

    def memory(self) -> Memory | None: ...

    def close(self) -> None: ...


class Client:
    def __init__(self, transport: Transport) -> None:
        """Use `mlxrun.load` or `mlxrun.connect`."""
        self._transport, self._closed = transport, False

    def __repr__(self) -> str:
        return f"Client({self.model!r}{', closed' * self._closed})"

    @property
    def model(self) -> str:
        return self._transport.model

    def chat(self, messages: str | Sequence[Message], **options: Any) -> Reply | list[Reply]:
        """The answer to a conversation; with `n` above 1 a list of answers."""
        return self._whole(Asking(Options.of(options), conversation(messages)))

    def complete(self, prompt: str, **options: Any) -> Reply | list[Reply]:
        """How the text goes on, without a chat template."""
        return self._whole(completion(prompt, options))

    def stream(self, messages: str | Sequence[Message], **options: Any) -> Stream:
        return self._stream(Asking(Options.of(options), conversation(messages)))

    def stream_complete(self, prompt: str, **options: Any) -> Stream:
        return self._stream(completion(prompt, options))

    async def achat(self, messages: str | Sequence[Message], **options: Any) -> Reply | list[Reply]:
        return await self._awhole(Asking(Options.of(options), conversation(messages)))

    async def acomplete(self, prompt: str, **options: Any) -> Reply | list[Reply]:
        return await self._awhole(completion(prompt, options))

    def astream(self, messages: str | Sequence[Message], **options: Any) -> AsyncStream:
        return AsyncStream(self.stream(messages, **options))

    def astream_complete(self, prompt: str, **options: Any) -> AsyncStream:
        return AsyncStream(self.stream_complete(prompt, **options))

    def models(self) -> list[ModelInfo]:
        return self._transport.models()

    def memory(self) -> Memory | None:
        """Bytes of weights, of what sequences remember, free and in all; None where a server does not tell."""
        memory = self._transport.memory()
        return None if memory is None else Held(**asdict(memory))

    def close(self) -> None:
        self._closed = True
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, ask: Asking) -> Stream:
        if self._closed:
            raise RequestError(f"This client of {self.model} is closed; load or connect anew.")
        if ask.options.n != 1:
            raise RequestError("n must be 1 where an answer is streamed; ask several times for several streams.")
        return Stream(self._transport.ask(ask))

    def _several(self, ask: Asking) -> list[Stream]:
        asks = [Asking(ask.options.one(index), ask.messages, ask.prompt) for index in range(ask.options.n)]
        return [self._stream(one) for one in asks]

    def _whole(self, ask: Asking) -> Reply | list[Reply]:
        streams = self._several(ask)
        try:
            if len(streams) == 1:
                return read(streams[0])
            with ThreadPoolExecutor(len(streams)) as pool:
                return list(pool.map(read, streams))
        finally:
            for stream in streams:
                stream.cancel()

    async def _awhole(self, ask: Asking) -> Reply | list[Reply]:
        streams = [AsyncStream(stream) for stream in self._several(ask)]
        try:
            for stream in streams:
                stream.start()
            replies = [good(await stream.whole()) for stream in streams]
            return replies[0] if ask.options.n == 1 else replies
        finally:
            for stream in streams:
                stream.cancel()


def completion(prompt: str, options: Mapping[str, Any]) -> Asking:
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
