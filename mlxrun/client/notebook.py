"""`%load_ext mlxrun` in a notebook: `%%chat`, a cell that is a message, answered beneath it as it comes.

The conversation goes on from cell to cell. What is shown at last is one output, whatever number of tokens it had.
IPython is imported only here, and only by who is in it.
"""

from __future__ import annotations

import argparse
import shlex
import time
from html import escape
from typing import Any, NoReturn

from ..core import RequestError
from . import Client, load
from .types import ClientError, Message

REDRAW = 0.1  # seconds
USUAL = "smollm2"


class ChatFlags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(f"%%chat: {message}.")


def words() -> ChatFlags:
    parser = ChatFlags("%%chat", add_help=False)
    parser.add_argument("--model", help=f"a name as load takes it, or a variable that holds a client; {USUAL} at first")
    parser.add_argument("--system")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--logprobs", type=int, help="paint how likely each token was, with so many others")
    parser.add_argument("--new", action="store_true", help="begin a new conversation")
    return parser


class ChatCells:
    """One conversation of one notebook."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._client: Client | None = None
        self._messages: list[Message] = []

    def __call__(self, line: str, cell: str) -> None:
        """The reply is the variable `_reply`."""
        from IPython.display import HTML, display

        try:
            given = words().parse_args(shlex.split(line))
            client = self._client_of(given.model)
            if given.new:
                self._messages = []
            options = {name: getattr(given, name) for name in ("temperature", "seed", "max_tokens", "logprobs")}
            said = [*self._messages, {"role": "user", "content": cell.strip()}]
            place, drawn = display(HTML(""), display_id=True), time.monotonic()
            with client.stream(said, system=given.system, **options) as stream:
                for _ in stream:
                    if time.monotonic() - drawn > REDRAW:
                        place.update(HTML(stream.reply._repr_html_()))
                        drawn = time.monotonic()
            reply = stream.reply
            if reply.reason is not None:
                raise ClientError(reply.reason, reply)
            place.update(reply)
        except (RequestError, ClientError, ValueError) as error:
            display(HTML(f"<pre>{escape(str(error))}</pre>"))
            return
        self._messages = [*said, {"role": "assistant", "content": reply.text}]
        self._shell.user_ns["_reply"] = reply

    def _client_of(self, name: str | None) -> Client:
        known = None if name is None else self._shell.user_ns.get(name)
        if isinstance(known, Client):
            self._client = known
        elif name is not None or self._client is None:
            self._client = load(name or USUAL)
        return self._client


def load_extension(shell: Any) -> None:
    shell.register_magic_function(ChatCells(shell), "cell", "chat")
