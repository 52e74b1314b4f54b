"""Tokens that hold one of some texts, or are control tokens: no repeated sequence reaches across them."""

from __future__ import annotations

from .tokenizer import Tokenizer


def breaker_ids(tokenizer: Tokenizer, texts: tuple[str, ...]) -> frozenset[int]:
    held = tuple(text.encode() for text in texts)
    return frozenset(
        token
        for token in range(tokenizer.vocab_size)
        if tokenizer.is_special(token) or any(text in tokenizer.token_bytes(token) for text in held)
    )
