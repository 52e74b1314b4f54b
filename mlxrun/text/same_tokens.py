"""Whether two tokenizers mean the same by each id, so that one model's tokens can be another's."""

from __future__ import annotations

from .tokenizer import Tokenizer


def why_not_same(one: Tokenizer, other: Tokenizer) -> str | None:
    """None: they do. An id that only one of them knows may stand for something there."""
    if one.eos_ids != other.eos_ids:
        return f"answers end with {sorted(one.eos_ids)} there and with {sorted(other.eos_ids)} here"
    for token in range(min(one.vocab_size, other.vocab_size)):
        if one.piece(token) != other.piece(token):
            return f"token {token} is {one.piece(token)!r} there and {other.piece(token)!r} here"
    return None
