"""What becomes of Markdown on the web page, in a browser: `make page`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .browser import make_page_only

pytestmark = make_page_only


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **b *c* d** e", ["<p>a <strong>b <em>c</em> d</strong> e</p>"]),
        ("***both*** ~~gone~~ snake_case_name 2*3*4", None),
        ("a\n***\nb", ["<p>a</p>", "<hr>", "<p>b</p>"]),
        ("# One\n## Two ##", ['<h3 class="h1">One</h3>', '<h4 class="h2">Two</h4>']),
        ("> a\n> > b", ["<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"]),
        ("3. a\n4. b\n\n   c", ['<ol start="3"><li><p>a</p></li><li><p>b</p><p>c</p></li></ol>']),
        ("- a\n    - b\n- c", ["<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"]),
        ("1. a\n  - b\n2. c", ['<ol start="1"><li>a<ul><li>b</li></ul></li><li>c</li></ol>']),
        ("`` a`b `` \\*no\\* &lt;b&gt; <b>", ["<p><code>a`b</code> *no* &lt;b&gt; &lt;b&gt;</p>"]),
        ("| a |\n|---|\n| `x|y` \\| z |", None),
        ("1\\. no list\n-no list", ["<p>1. no list<br>-no list</p>"]),
        ("a * b * c and ** and _ and ` alone", ["<p>a * b * c and ** and _ and ` alone</p>"]),
    ],
)
def test_markdown(markdown: Callable[[str], list[str]], text: str, shown: list[str] | None) -> None:
    if shown is None:
        shown = {
            "*": ["<p><strong><em>both</em></strong> <del>gone</del> snake_case_name 2<em>3</em>4</p>"],
            "|": [
                '<div class="wide" tabindex="0"><table><thead><tr><th class="to-left">a</th></tr></thead><tbody><tr>'
                '<td class="to-left"><code>x|y</code> | z</td></tr></tbody></table></div>'
            ],
        }[text[0]]
    assert markdown(text) == shown


@pytest.mark.parametrize(
    "bit", ["*a ", "**a ", "[", "`a``", "<", "> ", "- ", "|a", "_a ", "![](", "https://a)", "\\", "&", "~~a "]
)
def test_texts_that_are_made_to_be_slow_are_not(markdown: Callable[[str], list[str]], bit: str) -> None:
    """The browser would stand still for minutes; the wait for an answer would end this test."""
    assert len("".join(markdown(bit * (60_000 // len(bit)) + "x"))) >= 10_000
