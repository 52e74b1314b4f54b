"""The transport to a running server over OpenAI's interface, on the standard library alone: no MLX, quick to import.

One connection an answer: closing it is how an answer is cancelled, and the server frees its slot. What the
server refuses is a last piece with REFUSED; a server that goes away is a last piece with FAILED.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core import NUMBERS, Finish, Memory, RequestError
from ..parts import Piece
from ..speech import Transcript, TranscriptWish
from ..turns import Tool
from .events import SERVER_ERROR, Reading, message, server_events, tokens_of
from .options import Options
from .pictures import as_json
from .types import Asking, ClientError, ModelInfo, Score

if TYPE_CHECKING:
    from .readings import Array, What

LOADED = "loaded"  # as our server says; others say nothing, and have what they list
CONNECT_SECONDS = 5.0  # also for the small questions; an answer may take as long as it takes
ANSWER_SECONDS = 600.0  # for what is answered in one piece
BROKEN = (OSError, ValueError, http.client.HTTPException)  # ValueError: a response that is no HTTP


class Address:
    """Where a server is and how to be let in."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
            port = parts.port
        except ValueError:
            good, port = False, None
        if not good or parts.query or parts.fragment:
            raise RequestError(f"{url!r} is no address of a server; one looks like http://127.0.0.1:8080.")
        self.host, self.port, self.secure = str(parts.hostname), port, parts.scheme == "https"
        self.base = parts.path.rstrip("/").removesuffix("/v1")
        self.url = f"{parts.scheme}://{parts.netloc}{self.base}"
        self.headers = {"Accept": "application/json", "Connection": "close"}
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"

    def connection(self, seconds: float = CONNECT_SECONDS) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=seconds)

    def get(self, path: str, seconds: float = CONNECT_SECONDS) -> tuple[int, Any]:
        """(status, JSON); None for a body that is no JSON."""
        connection = self.connection(seconds)
        try:
            connection.request("GET", self.base + path, headers=self.headers)
            response = connection.getresponse()
            return response.status, parsed(response.read())
        finally:
            connection.close()


class HttpSource:
    """One answer: asked when iterating begins."""

    def __init__(self, address: Address, path: str, body: Mapping[str, Any], alternatives: int = 0) -> None:
        self._address, self._path, self._alternatives = address, path, alternatives
        self._body = encoded(body)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes who reads from it

    @property
    def prompt_read(self) -> tuple[int, int] | None:
        """A server tells when it is read, not how far it is."""
        return None

    def __iter__(self) -> Iterator[Piece]:
        reading = Reading(time.perf_counter(), self._alternatives)
        connection = self._address.connection()
        reason = f"The server at {self._address.url} ended the answer too early."
        try:
            yield from self._read(connection, reading)
        except BROKEN as error:
            told = str(error).rstrip(".") or type(error).__name__
            reason = f"The server at {self._address.url} cannot be reached or left while it answered: {told}."
        except (KeyError, TypeError, AttributeError):
            reason = f"What answers at {self._address.url} does not speak as a server for models does."
        finally:
            with self._lock:
                self._socket = None
            connection.close()
        broken = Piece(finish=Finish.FAILED, reason=reason)
        yield reading.last() or (Piece(finish=Finish.CANCELLED) if self._cancelled else broken)

    def _read(self, connection: http.client.HTTPConnection, reading: Reading) -> Iterator[Piece]:
        if self._open(connection):
            headers = {**self._address.headers, "Content-Type": "application/json"}
            connection.request("POST", self._address.base + self._path, self._body, headers)
            response = connection.getresponse()
            if response.status == http.client.OK:
                for event in server_events(response):
                    yield from reading.pieces(event)
            else:
                reading.refuse(response.status, parsed(response.read()))

    def _open(self, connection: http.client.HTTPConnection) -> bool:
        """False: cancelled before it began."""
        if self._cancelled:
            return False
        connection.connect()
        connection.sock.settimeout(None)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with self._lock:
            self._socket = connection.sock
            return not self._cancelled


class HttpTransport:
    def __init__(self, address: Address, model: str, context: int | None = None) -> None:
        self.address, self._model, self.context = address, model, context

    @classmethod
    def open(cls, url: str, key: str | None, model: str | None) -> HttpTransport:
        address = Address(url, key)
        listed = models_at(address)
        if model is None and not listed:
            raise ClientError(f"The server at {address.url} has no model.")
        names = [info.name for info in listed]
        if model is not None and model not in names:
            raise RequestError(f"The server at {address.url} has no model {model!r}; it has {', '.join(names)}.")
        chosen = listed[names.index(model) if model is not None else 0]
        return cls(address, chosen.name, chosen.context)

    @property
    def model(self) -> str:
        return self._model

    def ask(self, ask: Asking) -> HttpSource:
        common = {"model": self._model, "stream": True, "stream_options": {"include_usage": True}}
        common |= sampling_fields(ask.options)
        if ask.prompt is not None:
            body = {**common, "prompt": ask.prompt, "max_tokens": ask.options.max_tokens}
            if ask.options.logprobs is not None:
                body["logprobs"] = ask.options.logprobs
            return HttpSource(self.address, "/v1/completions", filled(body), ask.options.logprobs or 0)
        body = {
            **common,
            "messages": [{**one, "content": as_json(one["content"])} for one in ask.messages],
            "max_completion_tokens": ask.options.max_tokens,
        }
        if ask.options.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": ask.options.logprobs}
        if ask.tools:
            body["tools"] = [told(tool) for tool in ask.tools]
        if ask.options.template:
            body["chat_template_kwargs"] = dict(ask.options.template)
        return HttpSource(self.address, "/v1/chat/completions", filled(body))

    def tokenize(self, text: str) -> list[int]:
        found = self._asked("/tokenize", {"content": text, "parse_special": False})
        return [int(token) for token in found["tokens"]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return str(self._asked("/detokenize", {"tokens": list(tokens)})["content"])

    def score(self, text: str, top: int) -> Score:
        asked = {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": top}
        found = self._asked("/v1/completions", asked)["choices"][0]["logprobs"]
        found["token_logprobs"] = [math.nan if one is None else one for one in found["token_logprobs"]]
        return Score(text, tuple(tokens_of(found, top)))

    def embed(self, texts: Sequence[str], size: int | None, prompt: str | None, truncate: bool) -> Array:
        import numpy as np

        asked = {"input": list(texts), "dimensions": size, "prompt_name": prompt, "truncate": truncate or None}
        found = self._asked("/v1/embeddings", filled(asked))["data"]
        return np.array([one["embedding"] for one in sorted(found, key=lambda one: one["index"])], np.float32)

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        found = self._asked("/v1/rerank", {"query": question, "documents": list(texts)})["results"]
        return [float(one["relevance_score"]) for one in sorted(found, key=lambda one: one["index"])]

    def trace(self, text: str, layers: Sequence[int] | None, what: What, plain: bool) -> Array:
        raise RequestError("A server tells nothing of what goes on inside; mlxrun.load has the model in this process.")

    def transcribe(self, sound: bytes | Array, wish: TranscriptWish) -> Transcript:
        from .sounds import form_of, transcript_of, wav_of

        task = "translations" if wish.task == "translate" else "transcriptions"
        asked: dict[str, Any] = {"model": self._model, "response_format": "verbose_json", "language": wish.language}
        asked |= {"prompt": wish.prompt or None, "temperature": wish.temperature or None}
        body, kind = form_of(filled(asked), sound if isinstance(sound, bytes) else wav_of(sound))
        return transcript_of(self._posted(f"/v1/audio/{task}", body, kind))

    def _asked(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a question that is answered at once."""
        return self._posted(path, encoded({"model": self._model, **body}), "application/json")

    def _posted(self, path: str, body: bytes, kind: str) -> Any:
        connection = self.address.connection(ANSWER_SECONDS)
        try:
            headers = {**self.address.headers, "Content-Type": kind}
            connection.request("POST", self.address.base + path, body, headers)
            response = connection.getresponse()
            status, answer = response.status, parsed(response.read())
        except BROKEN as error:
            raise ClientError(f"The server at {self.address.url} cannot be reached: {error}.") from error
        finally:
            connection.close()
        if status != http.client.OK or not isinstance(answer, Mapping):
            reason = message(answer) or f"The server at {self.address.url} answered {path} with status {status}."
            raise (RequestError if status < SERVER_ERROR else ClientError)(reason)
        return answer

    def models(self) -> list[ModelInfo]:
        return models_at(self.address)

    @property
    def sees(self) -> None:
        """No list of models says so; whoever shows a picture to one that does not see is told."""

    def memory(self) -> Memory | None:
        try:
            _, told = self.address.get("/memory")
        except BROKEN:
            return None
        names = Memory.__slots__
        if not isinstance(told, Mapping) or not all(isinstance(told.get(name), int) for name in names):
            return None
        return Memory(**{name: told[name] for name in names})

    def statistics(self) -> None:
        """Its /metrics tells of all its models together."""

    def close(self) -> None:
        """The server stays; nothing is open between answers."""


def told(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def models_at(address: Address) -> list[ModelInfo]:
    try:
        status, body = address.get("/v1/models")
    except BROKEN as error:
        raise ClientError(f"No server answers at {address.url} ({error}); 'mlxrun serve' starts one.") from error
    try:
        if status != http.client.OK:
            raise ClientError(f"The server at {address.url} says: {body['error']['message']}")
        return [info_of(model) for model in body["data"]]
    except (TypeError, KeyError, AttributeError) as error:
        raise ClientError(f"What answers at {address.url} is no server for models.") from error


def info_of(model: Mapping[str, Any]) -> ModelInfo:
    context = model.get("context_length", model.get("max_model_len"))  # ours and OpenRouter's; vLLM's
    told = context if isinstance(context, int) and context > 0 else None
    return ModelInfo(str(model["id"]), loaded=model.get("state", LOADED) == LOADED, context=told)


def sampling_fields(options: Options) -> dict[str, Any]:
    numbers = {name: getattr(options, name) for name in NUMBERS}
    mirostat = {"mirostat": 2 if options.mirostat_tau else None, "mirostat_tau": options.mirostat_tau or None}
    return {**numbers, **mirostat, "stop": list(options.stop) or None, **constraint_fields(options)}


def constraint_fields(options: Options) -> dict[str, Any]:
    """As vLLM has them, and so do we: OpenAI's own know only JSON, and only in chats."""
    kinds = {"json": options.json_schema, "regex": options.regex, "grammar": options.grammar}
    asked = filled({**kinds, "choice": list(options.choice) or None})
    return {"structured_outputs": asked} if asked else {}


def filled(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"The messages and options must be plain JSON: {error}.") from error


def parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
