"""The web page in a browser, in short: `make page` tries the rest of it too."""

from __future__ import annotations

from collections.abc import Callable

from mlxrun.core import Finish
from tests.server.scripted import ScriptedEngine

from .browser import Talk, say, served

Visit = Callable[..., Talk]

ANSWER = """<think>Let me *see*.</think>## Title

Some **strong** and *soft* words, `code`, [a link](https://example.org/x).

1. one
   - inner

| a | b |
|--:|:-:|
| 1 | 2 |

```python
print("hello")  # said
```
"""

EVIL = """<script>window.hit = 1</script><img src=x onerror="window.hit = 2">

<svg onload="window.hit = 3"><a href="javascript:window.hit = 4">raw</a>

[one](javascript:window.hit=5) [two](data:text/html,<script>window.hit=6</script>) [three](JaVa\tScript:window.hit=7)
[four](vbscript:x) <javascript:window.hit=8> [five](https://example.org/"onclick="window.hit=9)

![picture](https://example.org/spy.png) ![inline](data:image/svg+xml,<svg onload=window.hit=10>)

| <b onclick=1>x</b> | [t](javascript:1) |
|---|---|
| <iframe src="https://example.org"></iframe> | ok |

```html" onclick="window.hit=11
</code></pre><script>window.hit = 12</script>
```

&lt;script&gt;window.hit = 13&lt;/script&gt; <style>body{display:none}</style>
"""


def test_an_answer_with_thoughts_is_shown_and_kept(visit: Visit) -> None:
    with served(ScriptedEngine(text=ANSWER)) as url:
        talk = visit(url)
        talk.ask("Tell me")
        talk.answered()
        assert talk.texts(".user .bubble") == ["Tell me"]
        assert talk.texts(".thought summary") == ["Thought for less than a second"]
        assert not talk.page.is_visible(".thought .prose")
        assert talk.texts(".parts > .prose h4") == ["Title"]
        assert talk.texts(".parts > .prose :is(strong, em, p code, ol > li > ul > li, td)") == [
            *("strong", "soft", "code", "inner", "1", "2")
        ]
        assert talk.texts(".code figcaption span") == ["python"]
        assert talk.texts(".hl-text, .hl-note") == ['"hello"', "# said"]
        assert "tokens · " in talk.texts(".facts")[0]
        link = talk.page.locator(".prose a")
        assert (link.get_attribute("href"), link.get_attribute("rel")) == (
            *("https://example.org/x", "noopener noreferrer nofollow"),
        )
        talk.page.reload()
        talk.page.click("#chats .open")
        assert talk.texts(".parts > .prose h4") == ["Title"]
        assert (talk.complaints, talk.asked_outside) == ([], [])


def test_what_a_model_writes_runs_nothing_and_loads_nothing(visit: Visit) -> None:
    with served(ScriptedEngine(text=EVIL, context=4000)) as url:
        talk = visit(url)
        talk.ask(EVIL)
        talk.answered()
        for link in talk.page.locator("#messages a").all():
            assert (link.get_attribute("href") or "").startswith("https://example.org/")
        inside = "#messages :is(script, iframe, style, object, embed, svg[onload], img, [onclick], [onerror])"
        assert talk.page.locator(inside).count() == 0
        assert talk.facts("window.hit") is None
        shown = talk.texts(".assistant .prose")[0]
        for text in ("<script>window.hit = 1</script>", "[one](javascript:window.hit=5)", "window.hit = 12", "<iframe"):
            assert text in shown
        assert (talk.complaints, talk.asked_outside) == ([], [])


def test_what_comes_is_shown_at_once_and_can_be_stopped(visit: Visit) -> None:
    engine = ScriptedEngine(held=True)
    with served(engine) as url:
        talk = visit(url)
        talk.ask("Count")
        talk.page.wait_for_selector(".waiting")
        while not engine.handles:
            talk.page.wait_for_timeout(10)
        say(engine, "one **two**")
        talk.page.wait_for_selector(".assistant.running strong")
        assert not talk.page.is_visible("#send")
        talk.page.keyboard.press("Escape")
        talk.answered()
        assert talk.texts(".assistant .prose, .assistant .note") == ["one two", "Stopped."]
        assert engine.handles[0].cancelled
        assert talk.page.is_visible("#send")
        engine.held, engine.finish = False, Finish.STOP
        talk.ask("Again")
        talk.answered(2)
        assert bytes(engine.asked[-1].tokens).decode() == "user:Count\nassistant:one **two**\nuser:Again\n"
