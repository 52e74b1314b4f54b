"""Parts: neighbours become one, in order, and none is without a word for it."""

from __future__ import annotations

from mlxrun.core import Finish
from mlxrun.parts import Arguments, CallBegun, CallEnded, Media, Piece, Said, Thought, Token, as_text, joined, merged

CALL = (CallBegun(0, "a", "f"), Arguments(0, '{"x"'), Arguments(0, ": 1}"), CallEnded(0))


def test_neighbours_are_merged_and_keep_their_order() -> None:
    parts = (Said("a"), Said("b"), Thought("c"), Said("d"), *CALL, CallBegun(1, "b", "g"), Arguments(1, "{}"))
    assert merged(parts) == (
        *(Said("ab"), Thought("c"), Said("d"), CALL[0], Arguments(0, '{"x": 1}'), CALL[3]),
        *(CallBegun(1, "b", "g"), Arguments(1, "{}")),
    )
    assert merged([Arguments(0, "a"), Arguments(1, "b")]) == (Arguments(0, "a"), Arguments(1, "b"))
    assert merged([]) == ()


def test_pieces_are_joined_and_the_last_says_how_it_ended() -> None:
    token = Token(b"a", -1.0)
    whole = joined([Piece((Said("a"),), (token,)), Piece((Said("b"),), (token,), Finish.STOP, "END")])
    assert whole == Piece((Said("ab"),), (token, token), Finish.STOP, "END")


def test_every_part_as_text() -> None:
    parts = (Said("a"), Thought("b"), *CALL, Media("image/png", b"x"))
    assert "".join(map(as_text, parts)) == "ab[a call of the tool 'f': {\"x\": 1}][a file of the type image/png]"
