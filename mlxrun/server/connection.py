"""One connection: how long its client may take, and what is said to bytes that are no HTTP.

uvicorn's protocol over h11 waits for ever for headers, and for a reader that reads nothing. Knows no path and no
dialect: what goes wrong before there is a path is told in OpenAI's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .body import SECONDS as BODY_SECONDS
from .errors import ApiError, encode
from .guard import MOST_HEADERS

HEADER_SECONDS = 10.0  # that headers may take to arrive, and that a new connection may say nothing
KEEP_ALIVE = 75  # seconds between two requests: agents run tools meanwhile
STALLED = 60.0  # seconds in which a reader reads nothing


class Faults(h11.Connection):
    """Remembers what was wrong with what the client sent: the status that it deserves is only in the exception."""

    fault: h11.RemoteProtocolError | None = None

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise


class Connection(H11Protocol):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.conn = self._faults = Faults(h11.SERVER, MOST_HEADERS)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm("headers", HEADER_SECONDS, self._no_headers)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._arm("headers", HEADER_SECONDS, self._no_headers)
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        state = self.conn.their_state
        if state is not h11.IDLE:
            self._disarm("headers")
        elif self.conn.trailing_data[0]:  # the beginning of a request that came right behind another
            self._arm("headers", HEADER_SECONDS, self._no_headers)
        if state is h11.SEND_BODY:
            self._arm("body", BODY_SECONDS, self._no_body)
        else:
            self._disarm("body")

    def send_400_response(self, msg: str) -> None:
        fault = self._faults.fault
        status, told = (400, msg) if fault is None else (fault.error_status_hint, f"This is no HTTP: {fault}.")
        if status == 431:
            told = f"The headers are larger than {MOST_HEADERS} bytes."
        self._refuse(ApiError(status, told))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in tuple(self._timers):
            self._disarm(name)
        super().connection_lost(exc)

    def _no_headers(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(ApiError(408, f"The headers did not arrive within {HEADER_SECONDS:.0f} seconds."))
        else:  # it never asked for anything
            self.transport.close()

    def _no_body(self) -> None:
        if self.cycle.response_started:  # else who reads the body says so, in a dialect's words
            self.transport.close()
            self._watch_reader()

    def _refuse(self, error: ApiError) -> None:
        """Nothing that follows on this connection can be understood."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = encode(error.body)
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            response = h11.Response(status_code=error.status, headers=headers)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever is answering has nobody to answer
            self.cycle.message_event.set()
        self.transport.close()
        self._watch_reader()

    def _watch_reader(self, before: int | None = None) -> None:
        """While something waits to be read, some of it must be now and then."""
        waiting = self.transport.get_write_buffer_size()
        self._disarm("reader")
        if before is not None and waiting >= before:
            self.transport.abort()
        elif waiting:
            self._arm("reader", STALLED, lambda: self._watch_reader(waiting))

    def _arm(self, name: str, seconds: float, late: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self._late, name, late)

    def _late(self, name: str, late: Callable[[], None]) -> None:
        self._timers.pop(name, None)
        late()

    def _disarm(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
