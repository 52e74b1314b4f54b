"""A tokenizer whose tokens are bytes, and the added ones that a test gives it."""

from __future__ import annotations

from mlxrun.text.quoting import MARK
from mlxrun.text.tokenizer import Marks, Tokenizer


class Letters(Tokenizer):
    """A token a byte, and the added tokens after them."""

    def __init__(self, added: tuple[str, ...], controls: tuple[str, ...]) -> None:
        super().__init__(Marks(None, frozenset()))
        self._added, self._controls = (*added, *controls), controls
        self.vocab_size = 256 + len(self._added)

    def encode(self, text: str, *, special: bool) -> list[int]:
        found = next((a for a in self._added if special and a in text), None)
        if found is None:
            return list(text.encode())
        before, _, after = text.partition(found)
        return [*self.encode(before, special=True), 256 + self._added.index(found), *self.encode(after, special=True)]

    def encode_quoted(self, text: str) -> list[int]:
        ids, mark = self.encode(text, special=True), list(MARK.encode())
        while (at := next((i for i in range(len(ids)) if ids[i : i + len(mark)] == mark), None)) is not None:
            del ids[at : at + len(mark)]
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
