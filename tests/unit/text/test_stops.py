"""Stop strings: the same answer however the text is cut, and nothing held back without need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.core import RequestError
from mlxrun.text.stops import StopStrings

SMALL = st.text("ab\n", max_size=25)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """By trying every end: the first at which some stop is complete, the longest of those."""
    for end in range(1, len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            longest = max(done, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(text: str, stops: list[str], cuts: list[int]) -> tuple[str, str | None]:
    watch, shown, ends = StopStrings(stops), "", sorted({min(cut, len(text)) for cut in (*cuts, len(text))})
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        piece, stopped = watch.push(text[start:end])
        shown += piece
        assert stopped == (watch.found is not None)
    return shown + watch.finish(), watch.found


@given(text=SMALL, stops=STOPS, cuts=st.lists(st.integers(0, 25), max_size=8))
def test_every_split(text: str, stops: list[str], cuts: list[int]) -> None:
    assert run(text, stops, cuts) == expected(text, stops)


@given(text=SMALL, stops=STOPS)
def test_only_a_possible_beginning_is_held_back(text: str, stops: list[str]) -> None:
    watch, fed, shown = StopStrings(stops), "", ""
    for letter in text:
        piece, stopped = watch.push(letter)
        fed, shown = fed + letter, shown + piece
        if stopped:
            return
        held = fed[len(shown) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_text_before_and_after() -> None:
    watch = StopStrings(["</end>", "\n\n"])
    assert watch.push("a <") == ("a ", False)
    assert watch.push("/e") == ("", False)
    assert watch.push("x") == ("</ex", False)
    assert watch.push("y\n") == ("y", False)
    assert watch.push("\nz") == ("", True)
    assert watch.found == "\n\n"
    assert watch.push("more") == ("", True)
    assert watch.finish() == ""


def test_no_stops_hold_nothing() -> None:
    watch = StopStrings([])
    assert watch.push("anything <") == ("anything <", False)


@pytest.mark.parametrize("bad", [[""], ["a", ""], [1], "stop", [None]])
def test_bad_stops(bad: object) -> None:
    with pytest.raises(RequestError, match="stop must be a list of strings that are not empty"):
        StopStrings(bad)  # type: ignore[arg-type]  # that is the test
