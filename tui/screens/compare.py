"""One conversation answered side by side: by other models, or by this one with other settings.

Models are loaded one after the other and beside the one that runs, as far as they fit; who does not fit says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mlxrun.core import Finish

from ..answer import AnswerReader, Batch
from ..backend import BROKEN, Backend, Joining
from ..commands import CommandError
from ..sessions import ChatTurn
from ..talk import Message
from ..text import Shown, one_line, visible
from ..widgets.document import Document
from ..wishes import Wishes
from .answering import ended, grown
from .dialog import Dialog

if TYPE_CHECKING:
    from mlxrun.client import Client

MOST = 3
PAINT_SECONDS = 0.15
HINTS = "1 to 3 takes that answer · esc closes"


@dataclass(slots=True)
class Contestant:
    name: str
    wishes: Wishes
    model: str | None = None  # None: the one that runs
    turn: ChatTurn = field(default_factory=lambda: ChatTurn(0, "assistant", ""))


def contestants(words: Sequence[str], wishes: Wishes) -> list[Contestant]:
    """name=value is a setting of the model that runs, several joined by commas; anything else is a model."""
    found = []
    for word in words or ("as-set", "temperature=0"):
        if word == "as-set":
            found.append(Contestant("as set here", wishes))
        elif "=" in word and "/" not in word.split("=")[0]:
            changed = wishes
            for pair in word.split(","):
                name, _, value = pair.partition("=")
                changed = replace(changed, effort=value) if name == "think" else changed.with_number(name, value)
            found.append(Contestant(word, changed))
        else:
            found.append(Contestant(word, wishes, word))
    if len(found) == 1:
        found.insert(0, Contestant("as set here", wishes))
    if len(found) > MOST:
        raise CommandError(f"/compare takes {MOST} at most, not {len(found)}.")
    return found


class CompareScreen(Dialog[ChatTurn]):
    """Gives the answer that is taken."""

    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        *[Binding(str(number), f"take({number})", show=False) for number in range(1, MOST + 1)],
        Binding("tab,right", "app.focus_next", show=False),
        Binding("shift+tab,left", "app.focus_previous", show=False),
    ]

    def __init__(
        self, who: list[Contestant], messages: list[Message], client: Client, backend: Backend, lock: threading.Lock
    ) -> None:
        super().__init__()
        self._who, self._messages, self._client, self._backend = who, messages, client, backend
        self._lock = lock  # one model at a time comes into memory
        self._readers: list[AnswerReader] = []
        self._clients: list[Client] = []
        self._closed = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="box compare") as box:
            box.border_title, box.border_subtitle = "Compare", HINTS
            with Horizontal(classes="columns"):
                for number, one in enumerate(self._who, 1):
                    with VerticalScroll(classes="column") as column:
                        column.border_title = Content(f"{number} {one_line(one.name, 40)}")
                        yield Document(classes="said")
                        yield Static("waiting", classes="footer", markup=False)

    def on_mount(self) -> None:
        self.query_one(".columns").set_class(self.app.size.width < 70, "-stacked")
        for index, one in enumerate(self._who):
            self.follow(index, one)

    @work
    async def follow(self, index: int, one: Contestant) -> None:
        column = list(self.query(".column"))[index]
        said, footer = column.query_one(Document), column.query_one(".footer", Static)
        try:
            client = self._client if one.model is None else await asyncio.to_thread(self._opened, one.model)
        except BROKEN as error:
            footer.update(Content(visible(str(error))))
            return
        options = one.wishes.options()
        reader = AnswerReader(lambda: client.stream(self._messages, **options))
        self._readers.append(reader)
        reader.start()
        shown, batch, turn = Shown(), Batch(), replace(one.turn, model=client.model)
        footer.update("reading")
        while batch.finish is None:
            await asyncio.sleep(PAINT_SECONDS)
            batch = reader.take()
            said.add(shown.push(batch.content))
            turn = grown(turn, batch, 0.0)
        turn = ended(turn, batch.finish, batch.reason or "", batch.usage, None)
        one.turn = turn
        from ..widgets.message import facts

        good = batch.finish in (Finish.STOP, Finish.LENGTH)
        footer.update(Content(" · ".join(facts(turn)) if good else visible(batch.reason or "stopped")))

    def _opened(self, name: str) -> Client:
        with self._lock:
            if self._closed:
                raise RuntimeError("closed")
            client = self._backend.open(name, None, join=Joining.NEVER).client
        self._clients.append(client)
        return client

    def action_take(self, number: int) -> None:
        if number <= len(self._who) and self._who[number - 1].turn.finish:
            self.dismiss(self._who[number - 1].turn)

    def on_unmount(self) -> None:
        self._closed = True
        for reader in self._readers:
            reader.cancel()
        threading.Thread(target=self._close_models, daemon=True).start()

    def _close_models(self) -> None:
        for reader in self._readers:
            reader.wait(5.0)
        with self._lock:
            for client in self._clients:
                client.close()
