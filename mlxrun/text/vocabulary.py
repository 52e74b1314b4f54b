"""A tokenizer -> what its tokens stand for, as data."""

from __future__ import annotations

from functools import partial

from ..core import NO_IDS, TokenVocabulary
from .tokenizer import Tokenizer


def vocabulary_of(tokenizer: Tokenizer, markers: frozenset[int] = NO_IDS) -> TokenVocabulary:
    """`markers`: tokens that are never text, beside control tokens."""
    ids = range(tokenizer.vocab_size)
    special = markers.union(i for i in ids if tokenizer.is_special(i))
    return TokenVocabulary(
        tokens=tuple([tokenizer.token_bytes(i) for i in ids]),
        special=special,
        ends=frozenset(tokenizer.eos_ids),
        encode=partial(tokenizer.encode, special=False),
    )
