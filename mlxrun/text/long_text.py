"""Text to token ids where the text may be far too long: refused by its bytes, then by a count of its pieces, before
the whole of it is tokenized. Between two pieces whoever waits may leave (wanted.py).

The count is of pieces alone, and a cut makes a token into a few: what is refused is too long by more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..core import ContextError
from .tokenizer import Tokenizer
from .wanted import go_on

PIECE = 1 << 14  # characters: some milliseconds
CUT = 8  # tokens that one cut may make
NEVER_SHORTER = 2  # characters of a token, on the mean of any text in use: what is shorter is not counted first


def check_bytes(size: int, tokenizer: Tokenizer, context: int) -> None:
    """`size`: bytes of a text, or at least so many."""
    if size > context and (least := -(-size // tokenizer.longest)) >= context:
        raise too_long(least, context)


def ids_within(
    text: str, tokenizer: Tokenizer, context: int, encode: Callable[[str], list[int]] | None = None
) -> list[int]:
    """Raises a ContextError for what leaves no room in the context. `encode`: `Tokenizer.encode_quoted` by itself."""
    check_bytes(len(text), tokenizer, context)
    if len(text) > NEVER_SHORTER * context:
        _count(text, tokenizer, context)
    go_on()
    ids = (encode or tokenizer.encode_quoted)(text)
    go_on()
    return ids


def _count(text: str, tokenizer: Tokenizer, context: int) -> None:
    counted = 0
    for piece in _pieces(text):
        go_on()
        counted += len(tokenizer.encode_quoted(piece)) - CUT
        if counted >= context:
            raise too_long(counted, context)


def _pieces(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        end = min(at + PIECE, len(text))
        space = text.rfind(" ", at + PIECE // 2, end)  # where most vocabularies cut too
        end = space if space > 0 and end < len(text) else end
        yield text[at:end]
        at = end


def too_long(tokens: int, context: int) -> ContextError:
    message = f"The prompt has at least {tokens} tokens, which leaves no room in a context of {context}."
    return ContextError(message, tokens, context)
