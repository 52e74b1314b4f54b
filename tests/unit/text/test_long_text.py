"""Texts that are far too long are refused before all of them is tokenized, and whoever waits may leave."""

from __future__ import annotations

import threading

import pytest

from mlxrun.core import ContextError
from mlxrun.text import long_text
from mlxrun.text.long_text import PIECE, ids_within
from mlxrun.text.tokenizer import Marks, Tokenizer
from mlxrun.text.wanted import Unwanted, until

WORD = "words "


class Words(Tokenizer):
    """A token for six letters."""

    vocab_size = 8

    def __init__(self) -> None:
        super().__init__(Marks(None, frozenset()))
        self.read = 0  # letters

    def encode(self, text: str, *, special: bool) -> list[int]:
        self.read += len(text)
        return [1] * -(-len(text) // len(WORD))

    def piece(self, token: int) -> str:
        return WORD

    def is_special(self, token: int) -> bool:
        return False

    def _spell(self, token: int) -> bytes:
        return WORD.encode()


def test_what_no_tokens_could_make_short_enough_is_not_read_at_all() -> None:
    words = Words()
    with pytest.raises(ContextError, match=r"at least \d+ tokens, which leaves no room in a context of 100") as refused:
        ids_within("x" * 1_000_000, words, 100)
    assert words.read == 0
    assert refused.value.tokens is not None
    assert 100 <= refused.value.tokens <= 1_000_000


def test_a_text_that_is_too_long_is_read_only_until_that_is_known() -> None:
    words, context = Words(), 10_000
    with pytest.raises(ContextError):
        ids_within(WORD * 14_000, words, context)
    assert words.read <= context * len(WORD) + 2 * PIECE


@pytest.mark.parametrize("tokens", [1, 100, 9_999, 10_000, 10_010])
def test_what_fits_is_tokenized_whole_and_what_hardly_does_not_is_the_engines(tokens: int) -> None:
    assert len(ids_within(WORD * tokens, Words(), 10_000)) == tokens


def test_who_waited_may_leave_between_two_pieces() -> None:
    words, left = Words(), threading.Event()

    def read(text: str, *, special: bool) -> list[int]:
        words.read += len(text)
        left.set()
        return [1]

    words.encode = read  # type: ignore[method-assign]  # somebody leaves meanwhile
    with pytest.raises(Unwanted):
        until(left, lambda: ids_within(WORD * 40_000, words, 100_000))
    assert words.read <= PIECE


def test_pieces_are_the_text() -> None:
    text = (WORD * 3000 + "x" * (2 * PIECE) + " ") * 2
    assert "".join(long_text._pieces(text)) == text
