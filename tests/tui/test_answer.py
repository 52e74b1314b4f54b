"""What the screen is handed of an answer: all of its parts, in the order in which they came."""

from __future__ import annotations

from mlxrun.tui.answer import AnswerReader

from mlxrun.client import Arguments, CallBegun, CallEnded, Finish, Piece, Said, Thought

from .fakes import FakeStream


def test_parts_come_in_order_and_none_is_passed_over() -> None:
    parts = (Thought("a"), Said("b"), Thought("c"), CallBegun(0, "i", "f"), Arguments(0, "{}"), CallEnded(0), Said("d"))
    reader = AnswerReader(lambda: FakeStream([*(Piece((part,)) for part in parts), Piece(finish=Finish.STOP)], None))
    reader.start()
    assert reader.wait(10)
    batch = reader.take()
    assert (batch.parts, batch.pieces, batch.finish) == (parts, len(parts), Finish.STOP)
    assert (batch.content, batch.reasoning) == ("b[a call of the tool 'f': {}]d", "ac")
