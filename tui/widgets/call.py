"""A call of a tool as a card: what is asked, whether it may run, what came of it.

While it waits for a person's word it takes keys; those that were meant for the prompt, and came just when it appeared,
decide nothing.
"""

from __future__ import annotations

import json
import time

from textual.binding import Binding
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from ..calls import CallState, ToolUse
from ..messages import CallDecided, Chosen
from ..text import visible

DEAF_SECONDS = 0.5  # after it has got the focus
LINES = 6  # of arguments and of a result that are shown at first
WORDS = {"y": "once", "a": "always", "n": "no"}
SIGNS = {
    CallState.ASKED: ("?", "$warning", "waits for your word"),
    CallState.RUNNING: ("…", "$secondary", "runs · esc gives it up"),
    CallState.DONE: ("✓", "$success", "done"),
    CallState.FAILED: ("✗", "$error", "failed"),
    CallState.DENIED: ("–", "$faint", "not allowed by you"),
}
ASKING = "y runs it once · a always from now on · n does not"
SHORT_ASKING = "y once · a always · n not"


class CallCard(Static, can_focus=True):
    FOCUS_ON_CLICK = True
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        *[Binding(key, f"decide('{word}')", show=False) for key, word in WORDS.items()],
        Binding("enter", "unfold", show=False),
        Binding("shift+tab", "leave", show=False),
        Binding("escape", "screen.stop", show=False),
    ]
    use: reactive[ToolUse] = reactive(ToolUse("", ""))
    unfolded: reactive[bool] = reactive(False)

    def __init__(self, use: ToolUse) -> None:
        super().__init__(classes="call", markup=False)
        self.set_reactive(CallCard.use, use)
        self._focused = 0.0

    @property
    def waits(self) -> bool:
        """For a person's word."""
        return self.use.state is CallState.ASKED

    def on_focus(self) -> None:
        self._focused = time.monotonic()
        asking = ASKING if self.app.size.width >= len(ASKING) + 4 else SHORT_ASKING
        self.post_message(Chosen(asking if self.waits else "enter shows all of it"))

    def on_blur(self) -> None:
        self.post_message(Chosen(""))

    def action_decide(self, word: str) -> None:
        if self.waits and time.monotonic() - self._focused >= DEAF_SECONDS:
            self.post_message(CallDecided(self.use.id, word))

    def action_unfold(self) -> None:
        self.unfolded = not self.unfolded

    def action_leave(self) -> None:
        self.screen.query_one("#prompt").focus()

    def watch_use(self) -> None:
        self.refresh(layout=True)

    def watch_unfolded(self) -> None:
        self.refresh(layout=True)

    def render(self) -> Content:
        use = self.use
        sign, colour, doing = SIGNS[use.state]
        head = Content.assemble(
            (f"{sign} ", colour), (one_name(use.name), "bold"), ("  ", ""), (doing, colour if sign == "?" else "$faint")
        )
        parts = [head, self._cut(pretty(use.arguments), "$foreground")]
        if self.waits:
            parts.append(Content.styled(ASKING, "$primary"))
        elif use.result:
            parts.append(self._cut(visible(use.result), "$faint"))
        return Content("\n").join(parts)

    def _cut(self, text: str, style: str) -> Content:
        lines = text.strip("\n").split("\n")
        more = 0 if self.unfolded else max(0, len(lines) - LINES)
        shown = "\n".join(f"  {line}" for line in (lines[:LINES] if more else lines))
        told = f"\n  … {more} more line{'s' * (more != 1)}; enter shows them" if more else ""
        return Content.assemble((shown, style), (told, "$faint"))


def one_name(name: str) -> str:
    return visible(name).replace("\n", "␊")


def pretty(arguments: str) -> str:
    """As a person reads them; what is no JSON as the model wrote it."""
    try:
        told = json.loads(arguments or "{}")
    except ValueError:
        return visible(arguments)
    if not isinstance(told, dict):
        return visible(arguments)
    lines = [f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in told.items()]
    return visible("\n".join(lines)) if lines else "without arguments"
