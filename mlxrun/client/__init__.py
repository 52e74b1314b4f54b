"""Talk to a model: in this process (`load`) or in a running server (`connect`), with the same interface.

Nothing heavy is imported until a model is loaded here: a client of a server never imports MLX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from ..core import Finish, Memory, RequestError, Usage
from ..parts import AnswerPart, Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought, Token
from ..spec import ModelError
from .asynchronous import AsyncStream
from .client import Client
from .discover import find_server
from .fetching import fetch
from .store import by_name, details, free_copies, is_here, on_this_machine, room_for_models, search_hub
from .stream import PieceSource, Stream
from .types import ClientError, FoundModel, ModelDetails, ModelInfo, Ranked, Reply, Score, ToolCall

if TYPE_CHECKING:
    from mlx.core import Dtype

    from ..loading import LoadOptions

__all__ = [
    "AnswerPart",
    "Arguments",
    "AsyncStream",
    "CallBegun",
    "CallEnded",
    "Client",
    "ClientError",
    "Finish",
    "FoundModel",
    "Media",
    "Memory",
    "ModelDetails",
    "ModelError",
    "ModelInfo",
    "Piece",
    "PieceSource",
    "Ranked",
    "Reply",
    "RequestError",
    "Said",
    "Score",
    "Stream",
    "Thought",
    "Token",
    "ToolCall",
    "Usage",
    "by_name",
    "connect",
    "details",
    "fetch",
    "find_server",
    "free_copies",
    "is_here",
    "load",
    "load_watched",
    "on_this_machine",
    "room_for_models",
    "search_hub",
]


class ReadingOptions(TypedDict, total=False):
    """How a model's files are read."""

    dtype: Dtype | None
    dialect: Literal["hf", "mlx"] | None
    waive: Iterable[str]
    unchecked: bool


def load(
    name: str | PathLike[str],
    *,
    context: int | None = None,
    adapter: str | PathLike[str] | None = None,
    options: LoadOptions | None = None,
    **reading: Unpack[ReadingOptions],
) -> Client:
    """A model in this process: a name of the store, a folder, a .gguf file, or org/name of the hub.

    `context`: tokens that a prompt and its answer may take together. `dtype`: an MLX type in which all of it is held.
    `waive`: keys of its config to go on without. `unchecked`: run a type that has no recipe here on mlx-lm's class.
    `adapter`: a folder or .gguf file of a LoRA or DoRA adapter, with which it answers, and by whose name it goes.
    `dialect` says how weights are laid out where files say it wrongly; `options` is all about loading, for who knows.

    >>> with mlxrun.load("smollm2", context=512) as small:
    ...     small.model
    'smollm2'
    """
    from .local import LocalTransport

    if strange := sorted(reading.keys() - ReadingOptions.__annotations__.keys()):
        known = ", ".join(("context", "adapter", "options", *ReadingOptions.__annotations__))
        raise RequestError(f"load knows no {strange[0]!r}; it takes {known}.")
    how: dict[str, Any] = {**reading, "waive": frozenset(reading.get("waive", ()))}
    if adapter is not None:
        how["adapter"] = Path(adapter).expanduser()
    if options is not None:
        how["options"] = options
    return Client(LocalTransport.open(fspath(name), context, how))


def load_watched(name: str, progress: Callable[[int, int], None]) -> Client:
    """`load` for who shows a bar: `progress` hears of the bytes that are there and of all; what it raises ends it, be
    it fetched or loaded."""
    if not is_here(name):
        fetch(name, progress)
    from .local import LocalTransport

    return Client(LocalTransport.open(name, None, {"progress": progress}))


def connect(url: str = "http://127.0.0.1:8080", key: str | None = None, *, model: str | None = None) -> Client:
    """A running server. Its model is the one that it has loaded, unless another one is named.

    >>> mlxrun.connect("http://127.0.0.1:1")
    Traceback (most recent call last):
        ...
    mlxrun.client.types.ClientError: No server answers at http://127.0.0.1:1 (...); 'mlxrun serve' starts one.
    """
    from .http import HttpTransport

    return Client(HttpTransport.open(url, key, model))
