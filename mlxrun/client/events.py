"""Server-sent events of OpenAI's interface -> pieces. Knows no connection.

The end is told in two events, the finish and then what was counted, and one piece says both.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core import Finish, Usage
from ..parts import AnswerPart, Arguments, CallBegun, CallEnded, Piece, Said, Thought, Token

SERVER_ERROR = 500
WHOLE = ("tool_calls", "stop")  # with another finish the last call was cut off
SPELLED = re.compile(r"(\\x[0-9a-f]{2})+")


def server_events(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        field, _, value = line.partition(b":")
        if field != b"data" or value.strip() == b"[DONE]":
            continue
        try:
            event = json.loads(value)
        except ValueError:
            event = {"error": {"message": "The server sent an event that is no JSON."}}
        if isinstance(event, Mapping):
            yield event


class Reading:
    """What is known of one answer while its events come in; times are the client's own."""

    def __init__(self, began: float, alternatives: int) -> None:
        self._began, self._first = began, 0.0
        self._alternatives = alternatives  # to each token; older lists name the chosen one among them
        self._finish: Finish | None = None
        self._reason: str | None = None
        self._counted: Mapping[str, Any] | None = None
        self._call: int | None = None  # the one whose arguments are coming

    def pieces(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        if "error" in event:
            self._finish, self._reason = Finish.FAILED, message(event)
        if isinstance(event.get("usage"), Mapping):
            self._counted = event["usage"]
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {"content": choice.get("text")}
            thought, said = delta.get("reasoning_content"), delta.get("content")
            parts: tuple[AnswerPart, ...] = (*([Thought(thought)] if thought else ()), *([Said(said)] if said else ()))
            parts += tuple(self._calls(delta.get("tool_calls") or (), ended=choice.get("finish_reason") in WHOLE))
            tokens = tuple(tokens_of(choice.get("logprobs"), self._alternatives))
            if choice.get("finish_reason") and self._finish is None:
                self._finish = finish_of(choice["finish_reason"])
            if parts or tokens:
                self._first = self._first or time.perf_counter()
                yield Piece(parts, tokens)

    def _calls(self, deltas: Iterable[Mapping[str, Any]], *, ended: bool) -> Iterator[AnswerPart]:
        """A call is whole when the next begins, or the answer ends because of it."""
        for delta in deltas:
            index, function = int(delta["index"]), delta.get("function") or {}
            if index != self._call:
                yield from self._call_ended()
                self._call = index
                yield CallBegun(index, str(delta.get("id") or f"call_{index}"), str(function.get("name") or ""))
            if function.get("arguments"):
                yield Arguments(index, function["arguments"])
        if ended:
            yield from self._call_ended()

    def _call_ended(self) -> Iterator[AnswerPart]:
        if self._call is not None:
            yield CallEnded(self._call)
            self._call = None

    def refuse(self, status: int, body: Any) -> None:
        self._finish = Finish.FAILED if status >= SERVER_ERROR else Finish.REFUSED
        self._reason = message(body) or f"The server answered with status {status}."

    def last(self) -> Piece | None:
        """None: nothing has told the end."""
        if self._finish is None:
            return None
        return Piece(finish=self._finish, reason=self._reason, usage=self.usage)

    @property
    def usage(self) -> Usage | None:
        if self._counted is None:
            return None
        now = time.perf_counter()
        first = self._first or now
        details = self._counted.get("prompt_tokens_details") or {}
        written = self._counted.get("completion_tokens_details") or {}
        return Usage(
            int(self._counted.get("prompt_tokens") or 0),
            int(details.get("cached_tokens") or 0),
            int(self._counted.get("completion_tokens") or 0),
            first - self._began,
            now - first,
            int(written.get("reasoning_tokens") or 0),
        )


def finish_of(told: str) -> Finish:
    try:
        return Finish(told)
    except ValueError:  # tool_calls, content_filter: the model came to an end
        return Finish.STOP


def message(body: Any) -> str | None:
    error = body.get("error") if isinstance(body, Mapping) else None
    told = error.get("message") if isinstance(error, Mapping) else error
    return told if isinstance(told, str) else None


def tokens_of(told: Any, alternatives: int) -> Iterator[Token]:
    """Of a chat, `content` with bytes; of a plain text, lists that spell bytes where they are no text."""
    if not isinstance(told, Mapping):
        return
    if told.get("content") is not None:
        yield from map(token_of, told["content"])
        return
    tops = told.get("top_logprobs") or [{}] * len(told.get("tokens") or ())
    for text, logprob, top in zip(told.get("tokens") or (), told.get("token_logprobs") or (), tops, strict=False):
        likeliest = tuple(Token(unspelled(other), value) for other, value in list((top or {}).items())[:alternatives])
        yield Token(unspelled(text), logprob, likeliest)


def unspelled(text: str) -> bytes:
    """`bytes:\\xe2\\x82` -> those bytes."""
    escaped = text.removeprefix("bytes:")
    if escaped != text and SPELLED.fullmatch(escaped):
        return bytes.fromhex(escaped.replace("\\x", ""))
    return text.encode("utf-8", "replace")


def token_of(told: Mapping[str, Any]) -> Token:
    spelled = told.get("bytes")
    raw = str(told["token"]).encode("utf-8", "replace") if spelled is None else bytes(spelled)
    top = tuple(map(token_of, told.get("top_logprobs") or ()))
    return Token(raw, float(told["logprob"]), top, told.get("id"))
