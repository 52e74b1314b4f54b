"""A tokenizer -> what its tokens stand for, as data."""

from __future__ import annotations

from functools import partial

from ..core import TokenVocabulary
from .tokenizer import Tokenizer


def vocabulary_of(tokenizer: Tokenizer) -> TokenVocabulary:
    ids = range(tokenizer.vocab_size)
    special = frozenset(i for i in ids if tokenizer.is_special(i))
    return TokenVocabulary(
        tokens=tuple([tokenizer.token_bytes(i) for i in ids]),
        special=special,
        ends=frozenset(tokenizer.eos_ids),
        encode=partial(tokenizer.encode, special=False),
    )
