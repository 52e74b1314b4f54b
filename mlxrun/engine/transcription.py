"""Speech written down, on the engine's thread between the passes of those who speak: a layer or a token at a time.

A window of sound after the other, as OpenAI's Whisper goes through a long file: the listener makes rows of it, tokens
are chosen with times among them, and the next window begins where the last whole segment ended. What repeats itself or
is unlikely is tried again at a higher temperature. Knows no text and no file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..contracts import HeardWindow, SequenceMemory
from ..core import RequestError
from ..loading.model import Runnable
from ..speech import TICK, SpeechTokens, SpeechWish, Spoken, SpokenSegment
from .speech_rules import Logits, barred, chosen, log_softmax

REPEATS = 2.4  # a window's text that can be written so many times shorter says the same over and over
UNLIKELY = -1.0  # of a token, on average: what is below was hardly heard
SILENT = 0.6  # so likely nobody speaks
CARRIED = 0.5  # what was drawn at a higher temperature is no help for the next window


class Windows(Protocol):
    """A sound, looked at a window at a time."""

    @property
    def frames(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    def window(self, first: int) -> NDArray[np.float32]:
        """(frames of a window, mels) from that frame on."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one try made of a window."""

    tokens: tuple[int, ...]  # of times too, without the end
    temperature: float
    logprob: float
    compression: float
    silence: float

    @property
    def good(self) -> bool:
        if self.silence > SILENT and self.logprob < UNLIKELY:
            return True  # nobody speaks, and that is what it says
        return self.compression <= REPEATS and self.logprob >= UNLIKELY

    @property
    def nothing(self) -> bool:
        return self.silence > SILENT and self.logprob < UNLIKELY


@dataclass(frozen=True)
class TranscriptionJob:
    clip: Windows
    wish: SpeechWish
    words: SpeechTokens
    compression: Callable[[Sequence[int]], float]  # of the text that tokens stand for
    told: Callable[[SpokenSegment], None] = lambda segment: None  # of each as it is there; must not wait
    done: Future[Spoken] = field(default_factory=Future)  # whoever cancels it ends the job within a pass

    def passes(self, model: Runnable) -> Iterator[None]:
        spoken = yield from Listening(self, model).all()
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(spoken)


class Listening:
    """One sound on its way through a model. Its generators yield between passes."""

    def __init__(self, job: TranscriptionJob, model: Runnable) -> None:
        listener = model.listener
        if listener is None:
            raise RequestError("This model hears nothing.")
        self._job, self._model, self._listener, self._words = job, model, listener, job.words
        self._window = listener.spec.sound.frames
        self._frame = listener.spec.sound.hop / listener.spec.sound.rate  # seconds
        self._tick = round(TICK / self._frame)  # frames
        self._random = np.random.default_rng(job.wish.seed)
        self._language = job.wish.language
        self._said = list(job.wish.prompt)  # what stands before the next window
        self._most = model.context // 2  # tokens of that, and of what is written

    def all(self) -> Generator[None, None, Spoken]:
        clip, segments, seek = self._job.clip, list[SpokenSegment](), 0
        while seek < clip.frames:
            heard = yield from self._hear(seek)
            if self._language is None and self._words.languages:
                self._language = yield from self._find_language(heard)
            best = yield from self._attempts(heard)
            frames = min(self._window, clip.frames - seek)
            if best.nothing:
                seek += frames
                continue
            found, whole, ahead = self._segments(best, seek, frames)
            seek += ahead
            segments += found
            for segment in found:
                self._job.told(segment)
            self._said = [*self._said, *best.tokens[:whole]] if best.temperature <= CARRIED else []
        return Spoken(self._language, clip.seconds, tuple(segments))

    def _hear(self, seek: int) -> Generator[None, None, HeardWindow]:
        rows = None
        for rows in self._listener.encode(mx.array(self._job.clip.window(seek))):
            mx.eval(rows)
            yield
        assert rows is not None
        heard = self._model.heard(rows)
        mx.eval(heard.arrays)
        yield
        return heard

    def _find_language(self, heard: HeardWindow) -> Generator[None, None, str]:
        logits = self._run(self._memory(heard), [self._words.start])[0]
        yield
        return max(self._words.languages, key=lambda code: logits[self._words.languages[code]])

    def _attempts(self, heard: HeardWindow) -> Generator[None, None, Attempt]:
        """The first that is good, or the last."""
        made = None
        for temperature in self._job.wish.temperatures:
            made = yield from self._attempt(heard, temperature)
            if made.good:
                break
        assert made is not None
        return made

    def _attempt(self, heard: HeardWindow, temperature: float) -> Generator[None, None, Attempt]:
        memory, words = self._memory(heard), self._words
        prompt, first = self._prompt()
        rows = self._run(memory, prompt, first)
        silence = 0.0 if words.silent is None else math.exp(log_softmax(rows[0])[words.silent])
        logits, tokens, total, ended = rows[-1], list[int](), 0.0, False
        most = min(self._most, self._model.context - len(prompt))
        while not ended:
            yield
            logits = barred(logits, tokens, words)
            token, logprob = chosen(logits, temperature, self._random)
            total += logprob
            ended = token == words.end or len(tokens) >= most
            if not ended:
                tokens.append(token)
                logits = self._run(memory, [token])[0]
        text = tuple(token for token in tokens if token < words.first_time)
        return Attempt(tuple(tokens), temperature, total / (len(tokens) + 1), self._job.compression(text), silence)

    def _prompt(self) -> tuple[list[int], int]:
        """And where its start token stands."""
        words, wish = self._words, self._job.wish
        before = [words.before, *self._said[1 - self._most :]] if self._said else []
        named = [words.languages[self._language], words.tasks[wish.task]] if self._language is not None else []
        return [*before, words.start, *named], len(before)

    def _memory(self, heard: HeardWindow) -> SequenceMemory:
        memory = self._model.new_sequence(self._model.context)
        memory.heard = heard
        return memory

    def _run(self, memory: SequenceMemory, tokens: Sequence[int], first: int | None = None) -> Logits:
        """The logits behind the last token; with `first` also those behind that one, before these."""
        hidden = self._model(mx.array(list(tokens), mx.int32), [(memory, len(tokens))])
        rows = hidden[-1:] if first is None else hidden[mx.array([first, len(tokens) - 1])]
        found = np.array(self._model.logits(rows).astype(mx.float32))
        if np.isnan(found).any():
            raise ValueError("the model put out values that are no numbers")
        return found

    def _segments(self, made: Attempt, seek: int, frames: int) -> tuple[list[SpokenSegment], int, int]:
        """What was said in a window, of how many of its tokens, and how many frames further the next window begins:
        behind the last segment whose end was heard, or behind this one where it ends with such."""
        first = self._words.first_time
        ticks = [token - first if token >= first else None for token in made.tokens]
        ends = [i + 1 for i in range(len(ticks) - 1) if ticks[i] is not None and ticks[i + 1] is not None]
        closed = len(ticks) > 1 and ticks[-1] is not None and ticks[-2] is None
        if not ends or closed:
            ends.append(len(ticks))
        segments, begin = list[SpokenSegment](), 0
        for end in ends:
            span = [tick for tick in ticks[begin:end] if tick is not None]
            until = span[-1] * TICK if len(span) > 1 else frames * self._frame
            if span:
                segments += self._segment(made, made.tokens[begin:end], seek, span[0] * TICK, until)
            begin = end
        behind = ticks[begin - 1] if begin else None
        if closed or begin == len(ticks) or not behind:
            return segments, begin, frames
        return segments, begin, min(frames, behind * self._tick)

    def _segment(
        self, made: Attempt, tokens: Sequence[int], seek: int, start: float, end: float
    ) -> list[SpokenSegment]:
        """None where nothing is said."""
        text = tuple(token for token in tokens if token < self._words.end)
        if not text or end <= start:
            return []
        before, last = seek * self._frame, self._job.clip.seconds
        start, end = min(before + start, last), min(before + end, last)
        how = made.temperature, made.logprob, made.compression, made.silence
        return [SpokenSegment(round(start, 2), round(end, 2), text, seek, *how)]
