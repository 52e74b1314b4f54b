"""A tokenizer whose tokens are bytes, and the added ones that a test gives it."""

from __future__ import annotations

import re

from mlxrun.text.quoting import MARK
from mlxrun.text.tokenizer import Marks, Tokenizer


class Letters(Tokenizer):
    """A token a byte, and the added tokens after them."""

    def __init__(self, added: tuple[str, ...], controls: tuple[str, ...]) -> None:
        super().__init__(Marks(None, frozenset()))
        self._added, self._controls = (*added, *controls), controls
        self.vocab_size = 256 + len(self._added)

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._ids(text, special, "")

    def encode_quoted(self, text: str) -> list[int]:
        return self._ids(text, True, MARK)

    def _ids(self, text: str, special: bool, dropped: str) -> list[int]:
        if not self._added or not special:
            return list((text.replace(dropped, "") if dropped else text).encode())
        parts = re.split("(" + "|".join(map(re.escape, sorted(self._added, key=len, reverse=True))) + ")", text)
        ids: list[int] = []
        for at, part in enumerate(parts):
            plain = part.replace(dropped, "") if dropped else part
            ids += [256 + self._added.index(part)] if at % 2 else plain.encode()
        return ids

    @property
    def controls(self) -> tuple[str, ...]:
        return self._controls

    @property
    def added(self) -> tuple[str, ...]:
        return self._added

    def added_id(self, text: str) -> int | None:
        return 256 + self._added.index(text) if text in self._added else None

    def piece(self, token: int) -> str:
        return self._spell(token).decode("latin-1")

    def is_special(self, token: int) -> bool:
        return token >= 256 and self._added[token - 256] in self._controls

    def _spell(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else self._added[token - 256].encode()
