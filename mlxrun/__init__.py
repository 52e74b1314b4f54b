"""Run open-weight language models, natively on MLX. Importing this imports nothing heavy, and never MLX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import command_buffers

if TYPE_CHECKING:
    from .client import (
        Client,
        ClientError,
        Memory,
        ModelError,
        ModelInfo,
        Piece,
        Ranked,
        Reply,
        RequestError,
        Score,
        Stream,
        ToolCall,
        connect,
        load,
    )

__version__ = "0.1.0"
__all__ = [
    "Client",
    "ClientError",
    "Memory",
    "ModelError",
    "ModelInfo",
    "Piece",
    "Ranked",
    "Reply",
    "RequestError",
    "Score",
    "Stream",
    "ToolCall",
    "__version__",
    "connect",
    "load",
]

command_buffers.decide()  # before any module of ours imports MLX


def __getattr__(name: str) -> Any:
    """The public names are of `mlxrun.client`, which is imported when one of them is first used."""
    if name not in __all__ and name != "client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    client = import_module(".client", __name__)
    return client if name == "client" else getattr(client, name)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext mlxrun` brings `%%chat`."""
    from importlib import import_module

    import_module(".client.notebook", __name__).load_extension(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
