"""Streaming decode: token ids in, text out, as soon as it is certain.

A character is shown once all its bytes are there; bytes that can never become one are U+FFFD, as in
decoding at once. What is pushed continues a text: no leading space is ever taken away.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from .tokenizer import Tokenizer


class Detokenizer:
    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Iterable[int]) -> str:
        tokenizer, skip = self._tokenizer, self._skip_special
        shown = (tokenizer.token_bytes(i) for i in ids if not (skip and tokenizer.is_special(i)))
        return self._utf8.decode(b"".join(shown))

    def finish(self) -> str:
        """What a half-finished character comes to, now that no more bytes will follow."""
        return self._utf8.decode(b"", final=True)
