"""What is asked of a model that writes down speech, and what comes back: in token ids for the engine, and in text.

All of it is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["transcribe", "translate"]
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the first try, and of those after it where one is no good
TICK = 0.02  # seconds between two tokens of time


@dataclass(frozen=True, slots=True)
class SpeechTokens:
    """The tokens that steer such a model. Whatever lies between `end` and `first_time` is never written."""

    end: int
    start: int
    languages: Mapping[str, int]  # empty: it knows one language
    tasks: Mapping[Task, int]
    before: int  # what was said before follows
    silent: int | None  # nobody speaks
    first_time: int  # 0 seconds; one more for every TICK
    never: frozenset[int] = frozenset()
    not_first: frozenset[int] = frozenset()
    latest_start: int = 50  # ticks at which the first segment of a window begins at the latest

    @property
    def untimed(self) -> int:
        """No times are written."""
        return self.first_time - 1


@dataclass(frozen=True, slots=True)
class SpeechWish:
    language: str | None = None  # its code; None: it is heard
    task: Task = "transcribe"
    prompt: tuple[int, ...] = ()  # tokens that stand before the first words, as if said before
    temperatures: tuple[float, ...] = TEMPERATURES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SpokenSegment:
    """A part of a sound, as tokens without those of time."""

    start: float  # seconds
    end: float
    tokens: tuple[int, ...]
    seek: int  # the frame at which its window begins
    temperature: float
    logprob: float  # of a token, on average over its window
    compression: float  # how many times shorter the window's text can be written: much where it repeats itself
    silence: float  # how likely nobody spoke in its window


@dataclass(frozen=True, slots=True)
class Spoken:
    language: str | None  # None: the model knows one only
    seconds: float
    segments: tuple[SpokenSegment, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class TranscriptWish:
    """How a sound shall be written down; what `SpeechWish` says, in terms of text."""

    language: str | None = None  # its code, such as "en"; None: it is heard
    task: Task = "transcribe"
    prompt: str = ""  # as if said before: names and words that are hard to hear, or the style
    temperature: float = 0.0  # of the first try


@dataclass(frozen=True, slots=True)
class TranscriptSegment:
    id: int
    start: float  # seconds
    end: float
    text: str
    tokens: tuple[int, ...]
    seek: int  # the frame at which its window begins
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said."""

    text: str
    language: str | None  # None: the model knows one only
    duration: float  # seconds
    segments: tuple[TranscriptSegment, ...]
