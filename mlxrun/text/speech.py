"""Of a model that writes down speech: the tokens that steer it, and text of what it wrote.

Tokens are found by their texts in the model's own vocabulary; what is never written, generation_config.json says.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import ModelError, shown
from ..speech import SpeechTokens, Spoken, SpokenSegment, Transcript, TranscriptSegment
from .tokenizer import Tokenizer

LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
MULTILINGUAL = 51865  # tokens of the smallest vocabulary that knows several languages; where no file says
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


def speech_tokens(tokenizer: Tokenizer, vocab: int, generation: Mapping[str, Any], file: str) -> SpeechTokens:
    """`generation`: what generation_config.json says, which may be nothing."""

    def needed(text: str) -> int:
        found = tokenizer.added_id(text)
        if found is None:
            raise ModelError(f"{file}: the tokenizer has no {text}, which a model that writes down speech needs.")
        return found

    first = needed("<|notimestamps|>") + 1
    start, translate = needed("<|startoftranscript|>"), needed("<|translate|>")
    several = generation.get("is_multilingual")
    languages: dict[str, int] = {}
    if several if isinstance(several, bool) else vocab >= MULTILINGUAL:
        between = range(start + 1, min(translate, needed("<|transcribe|>")))
        named = ((LANGUAGE.fullmatch(tokenizer.piece(i)), i) for i in between)
        languages = {match[1]: i for match, i in named if match is not None}
    if first >= vocab:
        raise ModelError(f"{file}: the tokenizer has more tokens before those of time than the model's {vocab}.")
    latest = generation.get("max_initial_timestamp_index")
    return SpeechTokens(
        end=needed("<|endoftext|>"),
        start=start,
        languages=languages,
        tasks={"transcribe": needed("<|transcribe|>"), "translate": translate},
        before=needed("<|startofprev|>"),
        silent=next((found for text in NO_SPEECH if (found := tokenizer.added_id(text)) is not None), None),
        first_time=first,
        never=ids_of(generation, "suppress_tokens", vocab, file),
        not_first=ids_of(generation, "begin_suppress_tokens", vocab, file),
        latest_start=latest if isinstance(latest, int) and 0 <= latest < 1 << 16 else 50,
    )


def ids_of(generation: Mapping[str, Any], key: str, vocab: int, file: str) -> frozenset[int]:
    found = generation.get(key) or []
    if not isinstance(found, list) or not all(isinstance(i, int) and -1 <= i < vocab for i in found):
        raise ModelError(f"{file}: {key} must be a list of token ids below {vocab}, not {shown(found)}.")
    return frozenset(i for i in found if i >= 0)


class SpeechWriter:
    """Tokens of segments -> text, of one model."""

    def __init__(self, tokenizer: Tokenizer, words: SpeechTokens) -> None:
        self._tokenizer, self.words = tokenizer, words

    def text(self, tokens: Sequence[int]) -> str:
        spelled = (self._tokenizer.token_bytes(token) for token in tokens if token < self.words.end)
        return b"".join(spelled).decode("utf-8", "replace")

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=False)

    def compression(self, tokens: Sequence[int]) -> float:
        """How many times shorter their text can be written."""
        raw = self.text(tokens).encode()
        return len(raw) / len(zlib.compress(raw))

    def segment(self, number: int, one: SpokenSegment) -> TranscriptSegment:
        return TranscriptSegment(
            number,
            one.start,
            one.end,
            self.text(one.tokens),
            one.tokens,
            one.seek,
            one.temperature,
            one.logprob,
            one.compression,
            one.silence,
        )

    def transcript(self, spoken: Spoken) -> Transcript:
        segments = tuple(self.segment(number, one) for number, one in enumerate(spoken.segments))
        text = "".join(one.text for one in segments).strip()
        return Transcript(text, spoken.language, round(spoken.seconds, 2), segments)
