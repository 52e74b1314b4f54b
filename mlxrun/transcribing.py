"""Sound in, text out over an engine: what `assistant` is for those who speak, for a model that writes down speech.

Files are read, and texts made of tokens, on the caller's thread; samples and token ids cross to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .core import RequestError
from .engine.engine import Engine
from .engine.transcription import TranscriptionJob
from .loading import OpenedModel
from .media.mel import Clip
from .media.sound import Samples, checked, open_sound
from .speech import TEMPERATURES, SpeechWish, Spoken, SpokenSegment, Transcript, TranscriptSegment, TranscriptWish
from .text.folder import read_json
from .text.speech import SpeechWriter, speech_tokens
from .text.tokenizer import Tokenizer

PROMPT = 8192  # letters of a prompt, of which the last words are read
SHOWN = 12  # languages in a sentence
GENERATION = "generation_config.json"


class Transcriber:
    def __init__(self, name: str, writer: SpeechWriter, opened: OpenedModel, engine: Engine) -> None:
        listener = opened.recipe.listener
        assert listener is not None
        self._name, self._writer, self._engine, self._sound = name, writer, engine, listener.sound

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of those that it knows; empty where that is one."""
        return tuple(self._writer.words.languages)

    def open(self, data: bytes, name: str = "The audio") -> Samples:
        """Of a file's bytes. A RequestError says why it cannot be read; `name` stands at its beginning."""
        return open_sound(data, self._sound.rate, name)

    def samples(self, given: Any, name: str = "The audio") -> Samples:
        """Of an array, which is at the model's own rate."""
        found = np.asarray(given)
        if found.dtype.kind != "f":
            raise RequestError(f"{name} must hold floats from -1 to 1, {self._sound.rate} of them a second.")
        return checked(found.astype(np.float32), name)

    def begin(
        self,
        samples: Samples,
        wish: TranscriptWish | None = None,
        told: Callable[[TranscriptSegment], None] | None = None,
    ) -> TranscriptionJob:
        """What was said comes in the job's `done`; `told` hears of each segment on the engine's thread."""
        wish, number = wish or TranscriptWish(), 0

        def hear(segment: SpokenSegment) -> None:
            nonlocal number
            if told is not None:
                told(self._writer.segment(number, segment))
            number += 1

        clip, words = Clip(samples, self._sound), self._writer.words
        job = TranscriptionJob(clip, self._settled(wish), words, self._writer.compression, hear)
        self._engine.embed(job)
        return job

    def transcript(self, spoken: Spoken) -> Transcript:
        return self._writer.transcript(spoken)

    def _settled(self, wish: TranscriptWish) -> SpeechWish:
        """Or why it cannot be."""
        known = self.languages
        if wish.language is not None and wish.language not in (known or ("en",)):
            told = f"{', '.join(known[:SHOWN])} and {len(known) - SHOWN} more" if len(known) > SHOWN else known
            raise RequestError(f"language must be a code that {self._name} knows, not {wish.language[:20]!r}: {told}.")
        if wish.task == "translate" and not known:
            raise RequestError(f"{self._name} knows one language only, and cannot translate.")
        if not 0 <= wish.temperature <= 1:
            raise RequestError(f"temperature must be a number from 0 to 1, not {wish.temperature}.")
        if len(wish.prompt) > PROMPT:
            raise RequestError(f"prompt has {len(wish.prompt)} letters; at most {PROMPT} may stand there.")
        before = wish.prompt.strip()
        tries = (wish.temperature, *(other for other in TEMPERATURES if other > wish.temperature))
        prompt = tuple(self._writer.ids(f" {before}")) if before else ()
        return SpeechWish(wish.language if known else None, wish.task, prompt, tries)


def transcriber_of(opened: OpenedModel, tokenizer: Tokenizer) -> Callable[[str, Engine], Transcriber] | None:
    """Who makes one of a name and an engine; None: it writes down no speech. ModelError: its files lack something."""
    if isinstance(opened.found, Exception) or opened.recipe.listener is None:
        return None
    path, vocab = opened.path / GENERATION, opened.recipe.decoder.vocab
    writer = SpeechWriter(tokenizer, speech_tokens(tokenizer, vocab, read_json(path), str(path)))
    return lambda name, engine: Transcriber(name, writer, opened, engine)
