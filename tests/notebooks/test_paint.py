"""What notebooks show: a model's text is never taken for HTML, and nothing of it is lost."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from mlxrun.client.paint import bars, painted
from mlxrun.client.types import Finish, Held, Reply, Token, Usage

HOSTILE = '<script>alert("x")</script>&amp;</div><img src=x onerror=y>\''
ALLOWED = {"div", "span", "details", "summary"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def tokens(text: str, size: int) -> tuple[Token, ...]:
    raw = text.encode()
    other = Token(HOSTILE.encode(), -9.0)
    return tuple(Token(raw[i : i + size], -0.5, (other,)) for i in range(0, len(raw), size))


@given(st.text(), st.text(), st.integers(1, 5))
def test_text_stays_text(text: str, thought: str, size: int) -> None:
    for whole in (text + HOSTILE, HOSTILE + text):
        for html in (painted(whole, thought, tokens(whole, size)), painted(whole, HOSTILE + thought, ())):
            reader = read(html)
            assert set(reader.tags) <= ALLOWED
            assert reader.names <= {"style", "title"}
            assert whole.replace("\r\n", "\n") in reader.text.replace("\r\n", "\n")


def test_a_character_of_several_tokens_is_painted_once() -> None:
    html = painted("é!", "", tokens("é!", 1))
    assert re.findall(r">([^<]+)<", html) == ["é", "!"]
    assert "36.8%" in html  # e to the -0.5, twice
    assert "60.7%" in html


def test_likely_is_clear_and_unlikely_is_red() -> None:
    html = painted("ab", "", (Token(b"a", 0.0), Token(b"b", float("-inf"))))
    assert re.findall(r"rgba\(220,60,40,([\d.]+)\)", html) == ["0.00", "0.65"]
    assert "\\n" not in unescape(html)


@given(*[st.integers(0, 2**40)] * 4)
def test_the_bars_fill_their_row(weights: int, cache: int, free: int, total: int) -> None:
    html = bars(Held(weights=weights, cache=cache, active=0, peak=0, free=free, total=total))
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert len(widths) == 4
    assert sum(widths) < 100.03


def test_a_reply_tells_itself_in_a_line() -> None:
    assert repr(Reply("Hi", usage=Usage(1, 0, 2, 0.1, 0.1))) == "Reply('Hi', stop, 2 tokens)"
    assert repr(Reply("", finish=Finish.CANCELLED)) == "Reply('', cancelled)"
