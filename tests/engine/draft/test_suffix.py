"""What the index finds is what looking at every place finds; and what follows there is what is proposed."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.engine.draft.base import Drafting
from mlxrun.engine.draft.suffix import (
    AT_ONCE,
    KINDS,
    LONG,
    LONGEST,
    MOST,
    SHORT,
    WALK,
    Match,
    RunIndex,
    SuffixIndex,
    SuffixProposer,
    agreed,
    following,
    kind_of,
)

texts = st.lists(st.integers(0, 3), min_size=1, max_size=60)
BIG = 2**17  # ids as large as a real vocabulary's


@dataclass
class Said:
    tokens: array[int]
    drafting: Drafting = field(default_factory=Drafting)


def longest_anywhere(text: list[int]) -> Match:
    """Every place, the latest first: no index."""
    best = Match(0, 0)
    for place in range(len(text) - 1, 0, -1):
        length = 0
        while length < min(LONGEST, place) and text[place - 1 - length] == text[len(text) - 1 - length]:
            length += 1
        best = max(best, Match(length, place), key=lambda match: match.length)
    return best if best.length >= SHORT else Match(0, 0)


def read(text: list[int], pieces: int = 1) -> SuffixIndex:
    index = SuffixIndex()
    for end in range(pieces, len(text) + pieces, pieces):
        assert index.read(text[:end])
    return index


@given(texts, st.integers(1, 9))
def test_it_finds_what_looking_everywhere_finds(text: list[int], pieces: int) -> None:
    found, best = read(text, pieces).match(text), longest_anywhere(text)
    if len(text) <= WALK:
        assert found == best
    assert found.length <= best.length
    assert (found.length == 0) == (best.length == 0)
    if found.length:
        assert agreed(text, found.place) == found.length


@given(st.lists(st.integers(0, 2), min_size=1, max_size=WALK))
def test_a_short_text_is_looked_through_wholly(text: list[int]) -> None:
    found, best = read(text).match(text), longest_anywhere(text)
    assert found.length == best.length
    if best.length >= LONG or best.length == 0:
        assert found == best


@given(texts, st.integers(2, 7))
def test_places_are_where_runs_ended_the_latest_first(text: list[int], size: int) -> None:
    ids = [BIG + token for token in text]
    runs = RunIndex(size)
    runs.read(ids, 0)
    expected = [
        place for place in range(len(ids) - 1, size - 1, -1) if ids[place - size : place] == ids[len(ids) - size :]
    ]
    assert [place for place in runs.places() if agreed(ids, place) >= size] == (
        expected[:WALK] if len(ids) >= size else []
    )


def test_a_long_match_is_found_behind_many_short_ones() -> None:
    text = [9, 8, 7, 6, 5, 1, 2, 3] + [40, 1, 2, 41] * (2 * WALK) + [9, 8, 7, 6, 5, 1, 2]
    assert read(text).match(text) == Match(7, 7)


def test_a_long_text_is_taken_in_by_pieces() -> None:
    text, index = [*range(AT_ONCE), 1, 2, 3], SuffixIndex()
    assert not index.read(text)
    assert index.read(text)
    assert index.match(text) == Match(3, 4)


@given(texts, st.integers(1, 100))
def test_what_follows_goes_round(text: list[int], count: int) -> None:
    for place in range(len(text)):
        longer = list(text)
        while len(longer) < place + count:
            longer.append(longer[place + len(longer) - len(text)])
        assert following(text, place, count) == longer[place : place + count]


def test_proposals() -> None:
    row = Said(array("i", [1, 2, 3, 4, 5, 6, 9, 2, 3]))
    (drafts,) = SuffixProposer().propose([row], [4])
    assert drafts.tokens == (4, 5, 6, 9)
    assert drafts.kinds == tuple(kind_of(length) for length in (2, 3, 4, 5))
    row.tokens.extend([4, 5])
    (drafts,) = SuffixProposer().propose([row], [2])
    assert (drafts.tokens, drafts.kinds) == ((6, 9), (kind_of(4), kind_of(5)))
    assert not SuffixProposer().propose([row], [0])[0]
    assert not SuffixProposer().propose([Said(array("i", [1, 2, 3]))], [5])[0]


def test_every_length_has_a_kind_with_a_rising_chance() -> None:
    kinds = [kind_of(length) for length in range(SHORT, LONGEST + MOST + 1)]
    assert kinds == sorted(kinds)
    assert set(kinds) == set(range(len(KINDS)))
    chances = [SuffixProposer().prior(kind) for kind in range(len(KINDS))]
    assert chances == sorted(chances)
    assert 0 < chances[0] < chances[-1] < 1


@pytest.mark.parametrize("token", [0, BIG])
def test_the_same_token_again_and_again(token: int) -> None:
    row = Said(array("i", [token] * 100))
    (drafts,) = SuffixProposer().propose([row], [MOST])
    assert drafts.tokens == (token,) * MOST
    assert drafts.kinds[0] == kind_of(LONGEST)
