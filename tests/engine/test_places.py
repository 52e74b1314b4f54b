"""Where the rows of a prompt with pictures turn: told by its pictures alone, however passes cut it."""

from __future__ import annotations

import pytest

from mlxrun.core import Request, RequestError, ShownTile, Tile
from mlxrun.engine.places import coordinates_of
from mlxrun.engine.request import check


def shown(first: int, down: int, across: int) -> ShownTile:
    rows = down * across
    return ShownTile(Tile(b"k" * 16, rows, (2 * down, 2 * across), b"", (down, across)), ((first, rows),))


MEDIA = [shown(2, 2, 3), shown(9, 1, 1), shown(11, 4, 2)]
# two words; 2 x 3 rows from 2 on; a word at 2 + 3; ...
WHOLE = [
    [0, 1, *[2] * 6, 5, 6, 7, *[8] * 8, 12, 13],
    [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 13],
    [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9, 8, 9, 8, 9, 12, 13],
]


def test_as_told_by_hand() -> None:
    found, shift, among = coordinates_of(MEDIA, range(21))
    assert [*found] == WHOLE
    assert (shift, among) == (0, True)


@pytest.mark.parametrize("first", range(22))
def test_however_it_is_cut(first: int) -> None:
    for end in range(first + 1, 22):
        found, shift, among = coordinates_of(MEDIA, range(first, end))
        assert [*found] == [axis[first:end] for axis in WHOLE]
        assert among == any(one.first < end and one.end > first for one in MEDIA)
        if not among:
            assert found[0] == [place + shift for place in range(first, end)]


def test_pictures_that_stand_as_words_do() -> None:
    tile = ShownTile(Tile(b"k" * 16, 4, (2, 8), b""), ((1, 4),))
    assert coordinates_of([tile], range(7)) == (([*range(7)], [*range(7)], [*range(7)]), 0, False)


def test_rows_that_stand_in_two_pieces_are_refused() -> None:
    torn = ShownTile(Tile(b"k" * 16, 4, (4, 4), b"", (2, 2)), ((1, 2), (4, 2)))
    with pytest.raises(RequestError, match="in one piece"):
        check(Request(tuple(range(10)), media=(torn,)), vocab=20, context=100)
