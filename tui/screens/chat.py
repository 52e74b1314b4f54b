"""The chat: what a person writes goes to the model, what it answers grows on the screen and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import OptionList

from ..attach import Attached, AttachError, named_files, read_file, written
from ..backend import ModelState, Phase
from ..commands import Command, CommandError, parsed
from ..messages import CallDecided, Chosen, DraftChanged, EditAsked, MessageAction, Submitted
from ..sessions import ChatTurn
from ..talk import Talk
from ..text import visible
from ..widgets.completions import CompletionList
from ..widgets.conversation import Conversation
from ..widgets.meter import MeterLine
from ..widgets.prompt import Prompt
from ..widgets.rail import LATEST, SessionRail
from ..widgets.status import StatusLine
from .answering import NO_TEXT_LOST, AnsweringScreen

if TYPE_CHECKING:
    from mlxrun.core import Memory

    from ..host import Host
    from ..widgets.call import CallCard

WARN_SHARE = 0.85  # of the context


class ChatScreen(AnsweringScreen):
    AUTO_FOCUS = "#prompt"
    BINDINGS = [  # noqa: RUF012 Textual's own way to declare them
        Binding("escape", "stop", "Stop the answer"),
        Binding("ctrl+c", "interrupt", "Stop, or copy", show=False),
        Binding("ctrl+n", "new", "New session", id="new"),
        Binding("ctrl+o", "app.sessions", "Sessions", id="sessions"),
        Binding("ctrl+l", "app.models", "Models", id="models"),
        Binding("ctrl+e", "app.engine", "Memory and engine", show=False),
        Binding("ctrl+g", "lens", "Lens", id="lens"),
        Binding("ctrl+r", "retry", "Answer again", id="retry"),
        Binding("ctrl+t", "reasoning", "Reasoning", id="reasoning"),
        Binding("f1", "app.help", "Keys", id="help"),
        Binding("f2", "rail", "Sessions beside", show=False, id="rail"),
    ]

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.edited: ChatTurn | None = None
        self._aside = ("", "")  # the draft that editing pushed aside, and its files
        self._early = ""  # sent before the sessions were open
        self.to_delete = 0  # the turn that one more d deletes
        self.copied_block = (0, 0)  # of which turn, and how many from its end on
        self._warned = False  # that the context is nearly full

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield SessionRail()
            with Vertical():
                with Vertical(classes="edge"):
                    yield StatusLine()
                yield Conversation()
                with Vertical(classes="edge"):
                    yield CompletionList()
                    yield Prompt()
                    yield MeterLine()

    def on_mount(self) -> None:
        self._status, self._meter = self.query_one(StatusLine), self.query_one(MeterLine)
        self._prompt, self._conversation = self.query_one(Prompt), self.query_one(Conversation)
        self._prompt.completions = self.query_one(CompletionList)
        self.watch(self.app, "model", self.on_model)
        self.watch(self.app, "memory", self.on_memory)

    @property
    def prompt(self) -> Prompt:
        return self._prompt

    @property
    def conversation(self) -> Conversation:
        return self._conversation

    async def open(self, talk: Talk) -> None:
        """Show that conversation; whatever was typed until now joins its draft."""
        self.leave()
        typed = self._prompt.text if self.talk is None else ""
        self.talk, self.edited, self._prompt.editing, self._warned = talk, None, False, False
        self._prompt.load(talk.saved_draft + typed, talk.saved_files)
        await self._conversation.show(talk.turns, talk)
        self.show_title()
        self.show_context()
        if talk.unanswered:
            await self._conversation.notice("This message has no answer yet.", retry=True)
        if self._early:
            early, self._early, draft = self._early, "", self._prompt.text
            await self.send(Submitted(early))
            self._prompt.load(draft)
        self._prompt.focus()

    def know_names(self, models: tuple[str, ...] | None = None) -> None:
        """For what is typed: presets may have come or gone."""
        self._prompt.presets = tuple(self.host.presets())
        self._prompt.models = self._prompt.models if models is None else models

    # what the app tells

    async def on_model(self, model: ModelState) -> None:
        self._status.model = self._conversation.model = model
        name = visible(model.name) or "the model"
        self._prompt.hint = (
            f"Message {name} · / for commands"
            if model.phase is Phase.READY
            else "Write already; it is sent when the model is there"
        )
        if model.phase is not Phase.READY:
            self._meter.rate = None  # it was another model's
        self.show_context()
        if self.waiting is None:
            return
        if model.phase is Phase.READY:
            view, self.waiting = self.waiting, None
            self._ask(view)
        elif model.phase is Phase.FAILED:
            await self._give_back(f"{model.reason} {NO_TEXT_LOST} Ctrl+L picks another model.")

    def on_memory(self, memory: Memory | None) -> None:
        self._meter.memory = memory

    # what a person does

    @on(Submitted)
    async def send(self, event: Submitted) -> None:
        if self.talk is None:
            self._early = f"{self._early}\n\n{event.text}" if self._early else event.text
            self._prompt.take(event.text)
            return
        try:
            command = parsed(event.text)
            if isinstance(command, Command):
                await self.obey(command, event.text)
                return
            if self.busy:
                self.host.tell("One answer at a time: Esc stops this one.")
                return
            files = list({file.name: file for file in (*event.files, *self._named(command))}.values())
        except (CommandError, AttachError) as error:
            self.host.tell(str(error))
            return
        edited, self._prompt.files = self.edited, []
        if edited is not None and edited.role == "assistant":
            await self._rewrite(edited, command, event.text)
            return
        turn = self.talk.say(command, edited, written(files))
        self._prompt.take(event.text)
        self._end_editing(self._prompt.text)
        self.show_title()
        if edited is not None:
            await self._conversation.show(self.talk.turns[:-1], self.talk)
        from ..widgets.message import UserMessage

        await self._conversation.add(UserMessage(turn, self.talk.place(turn)))
        await self.answer()

    async def _rewrite(self, answer: ChatTurn, text: str, sent: str) -> None:
        """An answer as the person would have had it, beside the one that the model gave."""
        assert self.talk is not None
        self.talk.rewrite(answer, text)
        self._prompt.take(sent)
        self._end_editing(self._prompt.text)
        await self.show_again()

    def _named(self, text: str) -> list[Attached]:
        folder = Path.cwd()
        client = self.host.client
        context, sees = (None, None) if client is None else (client.context, client.sees)
        return [read_file(place, folder, context, sees) for place in named_files(text, folder)]

    async def obey(self, command: Command, text: str) -> None:
        from .orders import run_order

        self._prompt.take(text)
        await run_order(self, command)

    @on(DraftChanged)
    def save_draft(self, event: DraftChanged) -> None:
        if self.talk is not None and self.edited is None:
            self.talk.draft(event.text, self._prompt.files_written)

    @on(EditAsked)
    def action_edit(self) -> None:
        said = self.talk.last_said if self.talk is not None else None
        if said is not None:
            self.edit(said)

    def edit(self, said: ChatTurn) -> None:
        if self.busy or self.edited is not None:
            return
        self._aside, self.edited = (self._prompt.text, self._prompt.files_written), said
        self._prompt.editing = True
        self._prompt.load(said.content, said.files)
        self._conversation.mark_edited(said)
        self._prompt.focus()

    async def action_stop(self) -> None:
        if self.edited is not None:
            self._end_editing()
        else:
            await self.stop_answer()

    async def action_interrupt(self) -> None:
        """Ctrl+C: what is selected is copied; else an answer stops."""
        selected = self.get_selected_text()
        if selected:
            self.host.copy_selected(selected)
        elif self.busy:
            await self.stop_answer()
        else:
            self.host.tell_once("ctrl+q quits; everything is saved.")

    async def action_retry(self) -> None:
        """Another answer; the one that is there stays beside it, and [ ] walk between them."""
        if self.talk is None or not self.talk.turns or self.busy:
            return
        last = self.talk.turns[-1]
        if last.role == "note":
            return
        if last.role == "assistant":
            await self._conversation.drop_answer()
        await self.answer()

    def action_lens(self) -> None:
        from .orders import lens

        lens(self, "")

    def action_reasoning(self) -> None:
        from ..widgets.reasoning import Reasoning

        shown = [box for box in self.query(Reasoning) if box.display]
        if shown:
            shown[-1].toggle()

    async def action_earlier(self) -> None:
        if self.talk is not None and not self.busy:
            await self._conversation.show(self.talk.turns, self.talk, all_of_them=True)
            self._conversation.scroll_home(animate=False)

    def action_scroll(self, where: str) -> None:
        (self._conversation.scroll_page_up if where == "up" else self._conversation.scroll_page_down)(animate=False)

    async def action_new(self) -> None:
        if self.talk is None or self.talk.turns or self.talk.title:
            await self.host.open_session(None)
        self._prompt.focus()

    async def action_copy(self) -> None:
        answer = self.talk.last_answer if self.talk is not None else None
        if answer is not None:
            await self.host.copy(answer.content, "The last answer")

    # messages that are chosen by key

    def action_choose_last(self) -> None:
        if not self._conversation.choose_call():
            self._conversation.choose_last()

    def choose_prompt(self) -> None:
        self._prompt.focus()

    @on(CallDecided)
    def decide_call(self, event: CallDecided) -> None:
        if self.calling is not None:
            self.calling.decide(event.call, event.word)

    def call_waits(self, card: CallCard) -> None:
        """It gets the focus, unless somebody is writing."""
        if self._prompt.text:
            self.host.tell_once("A tool waits for your word: shift+tab goes to it.")
        else:
            card.focus()

    @on(Chosen)
    def tell_actions(self, event: Chosen) -> None:
        self._meter.hint = event.hint

    @on(MessageAction)
    async def act(self, event: MessageAction) -> None:
        from .acts import act_on

        await act_on(self, event.turn, event.action)

    async def show_again(self, chosen: int | None = None) -> None:
        """The branch that is read now; `chosen`: the turn that keeps the focus."""
        if self.talk is not None:
            await self._conversation.show(self.talk.turns, self.talk)
            self._conversation.choose(chosen) if chosen is not None else self._prompt.focus()
            self.show_title()
            self.show_context()

    # what is shown of the whole

    def show_title(self) -> None:
        self._status.session = self.talk.title if self.talk is not None else ""
        self.show_rail()

    def show_rail(self) -> None:
        """The sessions as they are now, where there is room for them."""
        rail = self.query_one(SessionRail)
        if self.talk is not None and rail.styles.display != "none":
            rail.show(self.host.sessions.find(limit=LATEST), self.talk.session)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_rail)

    def action_rail(self) -> None:
        """Where there is none: the list of sessions."""
        rail = self.query_one(SessionRail)
        if rail.styles.display == "none":
            self.run_worker(self.run_action("app.sessions"))
        else:
            rail.focus()

    @on(OptionList.OptionSelected, "SessionRail")
    async def open_chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        await self.host.open_session(self.query_one(SessionRail).session(event.option_index))

    def answer_ended(self) -> None:
        self.host.look_at_memory()
        self.show_context()

    def show_context(self) -> None:
        client = self.host.client
        total = client.context if client is not None else None
        used = self.talk.used if self.talk is not None and total else 0
        self._meter.context = (used, total) if total and used else None
        full = bool(total) and used >= WARN_SHARE * (total or 1)
        if full and not self._warned:
            share = min(99, round(100 * used / (total or 1)))
            self.host.tell(f"{share}% of the context is used. /compact sums it up, /drop leaves the oldest out.")
        self._warned = full

    def _end_editing(self, typed_since: str = "") -> None:
        if self.edited is not None:
            self._conversation.mark_edited(None)
            self._prompt.editing, self.edited = False, None
            self._prompt.load(self._aside[0] + typed_since, self._aside[1])
            self._aside = ("", "")
