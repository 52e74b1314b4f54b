"""What widgets and threads tell the screens and the app. Small, and nothing but data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from mlxrun.core import Memory

    from .backend import OpenedClient


@dataclass
class Submitted(Message):
    """The prompt was sent."""

    text: str


@dataclass
class DraftChanged(Message):
    text: str


class EditAsked(Message):
    """The person wants to change what they said last."""


@dataclass
class LinkAsked(Message):
    """A link in an answer was clicked; nothing is opened yet."""

    href: str


@dataclass
class ModelOpened(Message):
    """From the thread that opens models; `attempt` tells which opening it was."""

    attempt: int
    opened: OpenedClient


@dataclass
class ModelFailed(Message):
    attempt: int
    reason: str


@dataclass
class MemoryRead(Message):
    memory: Memory | None
