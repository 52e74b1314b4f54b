"""The messages of a session, one below the other, held at the bottom until a person scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from ..backend import ModelState, Phase
from ..sessions import ChatTurn
from ..text import visible

LATEST = 40  # messages that a long session shows at once; older ones come when asked for
KEYS = (
    ("/", "commands"),
    ("@", "a file goes along"),
    ("ctrl+o", "earlier sessions"),
    ("ctrl+l", "other models"),
    ("f1", "all keys"),
)


class BranchPlaces(Protocol):
    def place(self, turn: ChatTurn) -> tuple[int, int]:
        """Which of how many branches begins there."""


class Welcome(Static):
    model: reactive[ModelState] = reactive(ModelState())

    def render(self) -> Content:
        name = visible(self.model.name) or "The model"
        said = {
            Phase.OPENING: f"{name} is loading. You can write already.",
            Phase.READY: f"{name} is ready.",
            Phase.RESTING: f"{visible(self.model.reason)} Your next message has {name} come again.",
            Phase.FAILED: visible(self.model.reason),
            Phase.LOST: "The server left. Your next message looks for it again, or loads a model here.",
        }[self.model.phase]
        colour = "$error" if self.model.phase is Phase.FAILED else "$foreground"
        keys = [part for key, what in KEYS for part in (("\n", ""), (f"{key:<8}", "$primary"), (what, "$faint"))]
        return Content.assemble((said, colour), "\n", *keys)


class Conversation(VerticalScroll, can_focus=False):
    model: reactive[ModelState] = reactive(ModelState())

    def on_mount(self) -> None:
        self.anchor()

    def watch_model(self, model: ModelState) -> None:
        for welcome in self.query(Welcome):
            welcome.model = model

    async def show(self, turns: Sequence[ChatTurn], places: BranchPlaces, *, all_of_them: bool = False) -> None:
        """These messages and nothing else."""
        from .message import message  # brings Markdown, which an empty screen can do without

        with self.app.batch_update():
            await self.remove_children()
            earlier = 0 if all_of_them else max(0, len(turns) - LATEST)
            if earlier:
                link = Content.from_markup(f"[@click='screen.earlier']{earlier} earlier messages[/]")
                await self.mount(Static(link, classes="earlier"))
            await self.mount_all([message(turn, places.place(turn)) for turn in turns[earlier:]])
            if not turns:
                await self.mount(welcome := Welcome())
                welcome.model = self.model
        self.anchor()

    async def add(self, widget: Widget) -> None:
        await self.query(".notice, Welcome").remove()
        await self.mount(widget)
        self.anchor()

    def choose_call(self) -> bool:
        """That waits for a word, where one does."""
        from .call import CallCard

        waiting = [card for card in self.query(CallCard) if card.waits]
        if waiting:
            waiting[0].focus()
        return bool(waiting)

    def choose_last(self) -> None:
        from .message import Choosable

        found = list(self.query(Choosable))
        if found:
            found[-1].focus()

    def choose(self, turn: int) -> None:
        from .message import Choosable

        for widget in self.query(Choosable):
            if widget.turn.id == turn:
                widget.focus()

    async def drop_answer(self) -> None:
        from .message import AssistantMessage

        answers = list(self.query(AssistantMessage))
        if answers:
            await answers[-1].remove()

    async def notice(self, sentence: str, *, retry: bool = False) -> None:
        from .message import Notice

        await self.add(Notice(sentence, retry=retry))

    def mark_edited(self, turn: ChatTurn | None) -> None:
        from .message import UserMessage

        for widget in self.query(UserMessage):
            widget.editing = turn is not None and widget.turn.id == turn.id
