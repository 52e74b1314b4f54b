"""Talk to a model: in this process (`load`) or in a running server (`connect`), with the same interface.

Nothing heavy is imported until a model is loaded here: a client of a server never imports MLX.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

from ..core import Finish, Memory, RequestError, Usage
from ..parts import AnswerPart, Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought, Token
from ..spec import ModelError
from .asynchronous import AsyncStream
from .client import Client
from .discover import find_server
from .store import on_this_machine
from .stream import PieceSource, Stream
from .types import ClientError, ModelInfo, Reply

__all__ = [
    "AnswerPart",
    "Arguments",
    "AsyncStream",
    "CallBegun",
    "CallEnded",
    "Client",
    "ClientError",
    "Finish",
    "Media",
    "Memory",
    "ModelError",
    "ModelInfo",
    "Piece",
    "PieceSource",
    "Reply",
    "RequestError",
    "Said",
    "Stream",
    "Thought",
    "Token",
    "Usage",
    "connect",
    "find_server",
    "load",
    "on_this_machine",
]


def load(name: str | PathLike[str], *, context: int | None = None, **how: Any) -> Client:
    """A model in this process: a name of the store, a folder, a .gguf file, or org/name of the hub.

    `context`: tokens that a prompt and its answer may take together. `how`: dtype, dialect, waive, unchecked.
    """
    from .local import LocalTransport

    return Client(LocalTransport.open(fspath(name), context, how))


def connect(url: str = "http://127.0.0.1:8080", key: str | None = None, *, model: str | None = None) -> Client:
    """A running server. Its model is the one that it has loaded, unless another one is named."""
    from .http import HttpTransport

    return Client(HttpTransport.open(url, key, model))
