"""Pictures in the engine: what a prompt is known by, what is encoded when, and what breaks alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxrun.assistant import Answer, Assistant, Wish
from mlxrun.core import Finish, Request, RequestError, Sampling, ShownTile, Tile
from mlxrun.engine.keys import keys_of
from mlxrun.engine.request import check
from mlxrun.nn.tower import TowerModel
from mlxrun.parts import Piece
from mlxrun.turns import Ask, Picture, Role, Turn
from tests.golden.towers import ASKED, picture, png, tower_reference


def tile(name: bytes, rows: int = 4) -> Tile:
    return Tile(name * 16, rows, (4, rows), b"")


def test_what_stands_for_a_picture_hangs_on_the_picture() -> None:
    tokens = array("i", [5, 9, 9, 6, 9, 9, 7])
    spans = ((1, 2), (4, 2))
    one, same, other = (keys_of(tokens, [ShownTile(tile(name), spans)]) for name in (b"a", b"a", b"b"))
    assert one == same
    assert [one[at] for at in (0, 3, 6)] == [5, 6, 7]
    assert all(one[at] < 0 and one[at] != other[at] for at in (1, 2, 4, 5))
    assert len({one[at] for at in (1, 2, 4, 5)}) == 4


@pytest.mark.parametrize(
    ("media", "said"),
    [
        ([ShownTile(tile(b"a"), ((1, 3),))], "another number of tokens"),
        ([ShownTile(tile(b"a"), ((1, 4),)), ShownTile(tile(b"b"), ((4, 4),))], "overlap"),
        ([ShownTile(tile(b"a"), ((6, 4),))], "must follow"),
    ],
)
def test_pictures_that_do_not_fit_their_prompt(media: list[ShownTile], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        check(Request(tuple(range(10)), media=tuple(media)), vocab=20, context=100)


@pytest.fixture(scope="module", params=["idefics3", "gemma3", "qwen3_vl"])
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    folder: Path = tower_reference(request.param).write(tmp_path_factory.mktemp(request.param))
    assistant = Assistant.open(folder)
    yield assistant
    assistant.close()


def ask(*sizes: tuple[int, int], words: str = ASKED) -> Ask:
    return Ask((Turn(Role.USER, (*(Picture("image/png", png(picture(*size))) for size in sizes), words)),))


def ended(answer: Answer) -> tuple[list[int], Piece]:
    pieces = list(answer)
    return [token.id for piece in pieces for token in piece.tokens if token.id is not None], pieces[-1]


def told(seeing: Assistant, what: Ask, tokens: int = 6) -> tuple[list[int], Piece]:
    return ended(seeing.answer(what, Wish(tokens, Sampling(temperature=0, logprobs=1)))[0])


def encoded(seeing: Assistant) -> int:
    return seeing.engine._scheduler._pictures.encoded


def test_a_second_turn_about_a_picture_encodes_nothing(seeing: Assistant) -> None:
    first, last = told(seeing, ask((41, 33)))
    before = encoded(seeing)
    again, usage = told(seeing, ask((41, 33)))
    assert (again, encoded(seeing)) == (first, before)
    assert usage.usage is not None
    assert last.usage is not None
    assert usage.usage.cached_tokens == last.usage.prompt_tokens - 1
    told(seeing, ask((41, 33), words="And what is beside it?"))
    assert encoded(seeing) == before


def test_another_picture_in_the_same_words_is_read_anew(seeing: Assistant) -> None:
    told(seeing, ask((45, 35)))
    before = encoded(seeing)
    _, last = told(seeing, ask((35, 45)))
    assert encoded(seeing) > before
    assert last.usage is not None
    assert last.usage.cached_tokens < 40  # of the words before the picture


def test_several_at_once_get_what_each_gets_alone(seeing: Assistant) -> None:
    sizes = [(30, 52), (53, 30), (31, 31)]
    wish = Wish(5, Sampling(temperature=0, logprobs=1))
    together = [seeing.answer(ask(size), wish)[0] for size in sizes]
    answers = [ended(answer)[0] for answer in together]
    assert answers == [told(seeing, ask(size), 5)[0] for size in sizes]


def test_a_tower_that_breaks_ends_its_request_alone(seeing: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: TowerModel, patches: Any) -> Iterator[mx.array]:
        raise RuntimeError("out of memory")
        yield

    monkeypatch.setattr(TowerModel, "encode", breaks)
    _, last = told(seeing, ask((22, 61)))
    assert last.finish is Finish.FAILED
    assert "out of memory" in (last.reason or "")
    monkeypatch.undo()
    assert told(seeing, ask((22, 61)))[1].finish is Finish.LENGTH
