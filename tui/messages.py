"""What widgets and threads tell the screens and the app. Small, and nothing but data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from mlxrun.core import Memory

    from .attach import Attached
    from .backend import OpenedClient
    from .sessions import ChatTurn


@dataclass
class Submitted(Message):
    """The prompt was sent."""

    text: str
    files: tuple[Attached, ...] = ()  # long pastes


@dataclass
class DraftChanged(Message):
    text: str


class EditAsked(Message):
    """The person wants to change what they said last."""


@dataclass
class Chosen(Message):
    """A message got the focus; `hint` tells what can be done with it, "" that none has it."""

    hint: str


@dataclass
class MessageAction(Message):
    """A key was pressed on the message that has the focus."""

    turn: ChatTurn
    action: str


@dataclass
class CallDecided(Message):
    """A person's word on a call of a tool: once, always or no."""

    call: str
    word: str


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
class ModelProgress(Message):
    """Bytes of what is being brought here or loaded."""

    attempt: int
    done: int
    total: int


@dataclass
class FetchEnded(Message):
    """A model arrived, was stopped on its way, or for a reason never came."""

    name: str
    reason: str


@dataclass
class ModelFailed(Message):
    attempt: int
    reason: str


@dataclass
class MemoryRead(Message):
    memory: Memory | None
