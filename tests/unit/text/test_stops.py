"""Stop strings: the same answer however the text is cut, and nothing held back without need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.core import RequestError
from mlxrun.parts import AnswerPart, CallBegun, Said, Thought, merged
from mlxrun.text.items import Hidden, Item
from mlxrun.text.stops import StopParts, StopStrings

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


def shown(items: list[Item], stops: list[str], size: int) -> tuple[tuple[AnswerPart, ...], str | None]:
    watch, parts = StopParts(stops), list[AnswerPart]()
    for at in range(0, len(items), size):
        parts += watch.push(items[at : at + size])
    return merged(parts + watch.finish()), watch.found


KINDS: list[type[Said | Thought | Hidden]] = [Said, Thought, Hidden]


@given(
    texts=st.lists(st.tuples(st.sampled_from(KINDS), st.text("ab\n", min_size=1, max_size=4)), max_size=12), stops=STOPS
)
def test_parts_are_cut_where_their_text_is(
    texts: list[tuple[type[Said | Thought | Hidden], str]], stops: list[str]
) -> None:
    items: list[Item] = [kind(text) for kind, text in texts]
    whole, found = expected("".join(text for _, text in texts), stops)
    kinds = [kind for kind, text in texts for _ in text][: len(whole)]
    wanted = [kind(letter) for kind, letter in zip(kinds, whole, strict=True) if kind is not Hidden]
    for size in (1, 3, len(items) or 1):
        assert shown(items, stops, size) == (merged(part for part in wanted if not isinstance(part, Hidden)), found)


def test_what_is_no_text_keeps_its_place() -> None:
    call = CallBegun(0, "a", "f")
    assert shown([Said("ab"), call, Said("c"), Said("END"), call], ["END"], 5) == ((Said("ab"), call, Said("c")), "END")
    assert shown([Said("aE"), call, Said("ND")], ["END"], 1) == ((Said("a"),), "END")
    assert shown([Said("aE"), call, Said("N")], ["END"], 1) == ((Said("aE"), call, Said("N")), None)


def test_a_stop_may_lie_in_a_hidden_marker() -> None:
    thinking: list[Item] = [Hidden("<think>"), Thought("a "), Hidden("</think>"), Said("b")]
    assert shown(thinking, ["</think>"], 1) == ((Thought("a "),), "</think>")
    assert shown(thinking, [">b"], 1) == ((Thought("a "),), ">b")
    assert shown(thinking, [], 1) == ((Thought("a "), Said("b")), None)
