"""Where an answer that must be something begins: after the thoughts, which run free.

Told as token ids, for whoever knows no text. Knows no grammar.
"""

from __future__ import annotations

from .reasoning import opens
from .reasoning_formats import Channels, ReasoningFormat
from .tokenizer import Tokenizer

SAID = "final"  # the channel of what is said


def end_of_thoughts(
    tokenizer: Tokenizer, form: ReasoningFormat | None, prompt: str
) -> tuple[tuple[int, ...] | None, int | None]:
    """The tokens that end the thoughts, None where there are none; and the one that must open them, if the prompt does
    not: an answer that begins otherwise has none."""
    if form is None:
        return None, None
    if isinstance(form, Channels):
        return tuple(tokenizer.encode(form.channel + SAID + form.message, special=True)), None
    opener, closer = tokenizer.added_id(form.open), tokenizer.added_id(form.close)
    end = tuple(tokenizer.encode(form.close, special=True)) if closer is None else (closer,)
    if opens(form, prompt):
        return end, None
    return (None, None) if opener is None else (end, opener)
