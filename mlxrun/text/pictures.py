"""Pictures in a prompt: the words that stand for each, and which of its tokens make way for its rows.

A chat template writes a placeholder for a picture. It is replaced in the text, before that becomes tokens, so that
what stands beside it is joined as the model was taught. Knows no file: who reads pictures is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

from ..core import RequestError, ShownTile, Tile
from ..spec import ModelError
from ..turns import Picture


class PictureRead(Protocol):
    """A picture that was read."""

    @property
    def words(self) -> str:
        """That stand for it in a prompt, as its model knows them."""

    @property
    def tiles(self) -> Sequence[Tile]:
        """In the order in which their rows come among the words."""


class Eyes(Protocol):
    """Who reads pictures for one model."""

    @property
    def placeholder(self) -> str:
        """What the chat template writes for a picture."""

    @property
    def soft(self) -> int:
        """The token in whose place a row of a picture comes."""

    @property
    def whole(self) -> bool:
        """Whether the rows of a tile see each other."""

    def read(self, data: bytes, name: str) -> PictureRead:
        """A RequestError says in a sentence that begins with the name why it cannot be read."""


MOST = 16  # pictures in one prompt


def read_all(pictures: Sequence[Picture], eyes: Eyes | None, model: str) -> list[PictureRead]:
    if pictures and eyes is None:
        raise RequestError(f"{model} sees no pictures: leave them out of the messages.")
    if len(pictures) > MOST:
        raise RequestError(f"The messages hold {len(pictures)} pictures; at most {MOST} are read.")
    return [
        eyes.read(one.data, "The picture" if len(pictures) == 1 else f"Picture {number} of the messages")
        for number, one in enumerate(pictures, 1)
        if eyes is not None
    ]


def worded(text: str, eyes: Eyes, seen: Sequence[PictureRead], model: str) -> str:
    """The words of each picture in the place of its placeholder."""
    pieces = text.split(eyes.placeholder)
    if len(pieces) != len(seen) + 1:
        raise RequestError(
            f"The chat template of {model} shows {len(pieces) - 1} of the {len(seen)} pictures: put them into turns of "
            "the user."
        )
    return "".join(part for pair in zip(pieces, [*(one.words for one in seen), ""], strict=True) for part in pair)


def placed(tokens: Sequence[int], eyes: Eyes, seen: Sequence[PictureRead], model: str) -> tuple[ShownTile, ...]:
    """Each tile and the tokens in whose places its rows come."""
    free = [at for at, token in enumerate(tokens) if token == eyes.soft]
    tiles = [tile for one in seen for tile in one.tiles]
    if len(free) != sum(tile.rows for tile in tiles):
        raise ModelError(
            f"{model} has {len(free)} tokens in the prompt for {sum(tile.rows for tile in tiles)} rows of pictures: "
            "its tokenizer and its config do not belong together."
        )
    placed, first = list[ShownTile](), 0
    for tile in tiles:
        placed.append(ShownTile(tile, tuple(spans(free[first : first + tile.rows])), eyes.whole))
        first += tile.rows
    return tuple(placed)


def spans(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of neighbours, each by its first and how many."""
    for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        members = [at for _, at in run]
        yield members[0], len(members)
