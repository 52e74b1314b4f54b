"""What a scene is: what is played to each engine in every round, and which figures come of the rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .asked import Peer, Prompts

Played = dict[str, float]  # figures of one engine in one round


@dataclass(frozen=True)
class Bar:
    """A figure that is wanted: of ours, or of ours beside the other engine's."""

    figure: str
    wanted: float
    least: bool = True  # else at most
    beside: bool = False  # ours divided by the other's

    def reached(self, value: float) -> bool:
        return value >= self.wanted if self.least else value <= self.wanted


@dataclass(frozen=True)
class Scene:
    name: str
    about: str
    play: Callable[[Any, Prompts, Sizes], Played]
    slots: int = 1  # of the other engine
    context: Callable[[Sizes], int] = lambda sizes: 1024  # of each of them
    other: bool = True  # llama-server plays it too
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """How long things are: as the bars want them, or shorter for a quick look."""

    prompt: int  # of a long prompt, a document
    session: int  # what an agent begins with
    sharers: int  # requests on one document
    speaks: int  # tokens of an answer that is timed


WHOLE = Sizes(prompt=4000, session=6000, sharers=16, speaks=128)
QUICK = Sizes(prompt=800, session=1000, sharers=8, speaks=32)


def is_ours(peer: Peer) -> bool:
    return hasattr(peer, "engine")
