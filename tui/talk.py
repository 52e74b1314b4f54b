"""One conversation and its place on disk: every change is saved as it is made. Knows no widgets and no model.

A conversation is a tree. What is read of it is one branch; a message that is written anew, or another answer, begins
another branch beside the old one, and nothing is lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import attach, calls
from .sessions import ChatTurn, Sessions
from .wishes import Wishes

Message = dict[str, Any]
Content = str | list[str | bytes]
SUMMARY = "A summary of our conversation so far:"


class Talk:
    def __init__(self, sessions: Sessions, session: int | None = None) -> None:
        """Without a session it is a new one, which is written with the first letter."""
        self._sessions, self.session = sessions, session
        found = None if session is None else sessions.get(session)
        self.title = found.title if found else ""
        self.saved_draft = found.draft if found else ""
        self.saved_files = "" if session is None else sessions.draft_files(session)
        self.wishes = Wishes.read("" if session is None else sessions.wishes(session))
        self.turns: list[ChatTurn] = [] if session is None else sessions.turns(session)
        self._children: dict[int | None, list[int]] = {} if session is None else sessions.children(session)

    @property
    def unanswered(self) -> bool:
        return bool(self.turns) and self.turns[-1].role == "user"

    @property
    def last_said(self) -> ChatTurn | None:
        return next((turn for turn in reversed(self.turns) if turn.role == "user"), None)

    @property
    def last_answer(self) -> ChatTurn | None:
        return next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)

    def draft(self, text: str, files: str = "") -> None:
        if text or files or self.session is not None:
            self._sessions.draft(self._kept(), text, files)

    def wish(self, wishes: Wishes) -> None:
        self.wishes = wishes
        if wishes != Wishes() or self.session is not None:
            self._sessions.wish(self._kept(), wishes.written())

    # what is said

    def say(self, text: str, instead_of: ChatTurn | None = None, files: str = "") -> ChatTurn:
        """`instead_of`: another branch begins beside that turn."""
        if instead_of is not None:
            self._before(instead_of)
        return self._grown(self._sessions.say(self._kept(), text, self._leaf, files))

    def answer(self, model: str, content: str = "") -> ChatTurn:
        """To the last message; where it has an answer already, another one beside it."""
        if self.turns and self.turns[-1].role == "assistant":
            self._before(self.turns[-1])
        return self._grown(self._sessions.answer(self._kept(), model, self._leaf, content))

    def rewrite(self, turn: ChatTurn, text: str) -> None:
        """That answer in other words, as a branch beside it."""
        self._before(turn)
        made = self._grown(self._sessions.answer(self._kept(), turn.model, self._leaf, text))
        self.save(replace(made, content=text, finish="edited"))

    def note(self, text: str, keeps: int) -> ChatTurn:
        """From here on a model is told `text` in place of all but the last `keeps` turns."""
        assert self._leaf is not None
        return self._grown(self._sessions.note(self._kept(), text, self._leaf, keeps))

    def save(self, turn: ChatTurn) -> None:
        """That turn as it is now."""
        self._sessions.save(turn)
        self.turns = [turn if old.id == turn.id else old for old in self.turns]

    # branches

    def place(self, turn: ChatTurn) -> tuple[int, int]:
        """Which of how many branches it begins there; from 1."""
        beside = self._children.get(turn.parent, [turn.id])
        return (beside.index(turn.id) + 1 if turn.id in beside else 1), len(beside)

    def walk(self, turn: ChatTurn, step: int) -> bool:
        """To the branch beside that turn, and to its latest end. Whether there is one."""
        beside = self._children.get(turn.parent, [])
        at = beside.index(turn.id) + step if turn.id in beside else -1
        if not 0 <= at < len(beside):
            return False
        self._read_on(beside[at])
        return True

    def remove(self, turn: ChatTurn) -> bool:
        """Forget it and all that follows it. Whether a branch beside it takes its place."""
        beside = [one for one in self._children.get(turn.parent, []) if one != turn.id]
        self._sessions.remove(self._kept(), turn.id, turn.parent)
        self._children = self._sessions.children(self._kept())
        self._before(turn)
        if beside:
            self._read_on(beside[-1])
        self.refresh()
        return bool(beside)

    def branch(self, turn: ChatTurn) -> int:
        """A new session that holds all up to that turn; its number."""
        made, parent = self._sessions.create(), None
        for one in self.turns:
            parent = self._sessions.add(made, one, parent)
            if one.id == turn.id:
                break
        self._sessions.rename(made, f"{self.title} (branch)")
        self._sessions.wish(made, self.wishes.written())
        return made

    # what a model is told

    def told(self) -> list[ChatTurn]:
        """The turns that a model is asked with: all, or those that the last note keeps and that came after it."""
        notes = [at for at, turn in enumerate(self.turns) if turn.role == "note"]
        if not notes:
            return list(self.turns)
        at = notes[-1]
        before = [turn for turn in self.turns[:at] if turn.role != "note"]
        note = self.turns[at]
        return [note, *before[len(before) - note.keeps :], *self.turns[at + 1 :]]

    def messages(self, sees: bool = True) -> list[Message]:
        """As a model is asked. Two messages in a row of one side, as an interruption leaves them, become one.

        `sees`: else pictures are named, since another model may have been shown them.
        """
        told: list[Message] = []
        for message in (one for turn in self.told() for one in messages_of(turn, sees)):
            if told and joins(told[-1], message):
                told[-1] = {**message, "content": joined(told[-1]["content"], message["content"])}
            else:
                told.append(message)
        if told and told[0]["role"] == "assistant":  # the question was dropped; templates want one first
            told.pop(0)
        system = self.wishes.system
        return [{"role": "system", "content": system}, *told] if system else told

    @property
    def used(self) -> int:
        """Tokens of the context that are used, about: counted up to the last answer, guessed after it."""
        guessed, told = 0, self.told()
        for turn in reversed(told):
            if turn.role == "note":
                break
            if turn.role == "assistant" and turn.prompt:
                noted = any(one.role == "note" and one.id > turn.id for one in told)
                return guessed + (attach.tokens_in(turn.content) if noted else turn.prompt + turn.tokens)
            guessed += attach.tokens_in(as_told(turn))
        return sum(map(tokens_of, self.messages()))

    def refresh(self) -> None:
        """The title may have changed elsewhere."""
        found = None if self.session is None else self._sessions.get(self.session)
        self.title = found.title if found else ""

    @property
    def exists(self) -> bool:
        """False: it was deleted in the list of sessions."""
        return self.session is None or self._sessions.get(self.session) is not None

    @property
    def _leaf(self) -> int | None:
        return self.turns[-1].id if self.turns else None

    def _before(self, turn: ChatTurn) -> None:
        self.turns = [old for old in self.turns if old.id < turn.id]

    def _grown(self, turn: ChatTurn) -> ChatTurn:
        self.turns.append(turn)
        self._children.setdefault(turn.parent, []).append(turn.id)
        self.refresh()
        return turn

    def _read_on(self, turn: int) -> None:
        while turn in self._children:
            turn = self._children[turn][-1]
        self._sessions.read_on(self._kept(), turn)
        self.turns = self._sessions.path(self._kept(), turn)

    def _kept(self) -> int:
        if self.session is None:
            self.session = self._sessions.create()
            self._sessions.remember("session", str(self.session))
            if self.wishes != Wishes():
                self._sessions.wish(self.session, self.wishes.written())
        return self.session


def messages_of(turn: ChatTurn, sees: bool) -> list[Message]:
    if turn.role == "assistant":
        return calls.as_messages(calls.read(turn.calls), turn.content)
    text, shown = as_told(turn), attach.pictures(attach.read(turn.files))
    if shown and sees:
        return [{"role": "user", "content": [*(file.data for file in shown), text]}]
    text = "\n\n".join([*(f"[a picture that you do not see: {file.name}]" for file in shown), text])
    return [{"role": "user", "content": text}] if text else []


def joined(before: Content, content: Content) -> Content:
    if isinstance(before, str) and isinstance(content, str):
        return f"{before}\n\n{content}"
    return [*parts_of(before), *parts_of(content)]


def parts_of(content: Content) -> list[str | bytes]:
    return [content] if isinstance(content, str) else content


def tokens_of(message: Message) -> int:
    """About, and of its texts alone: how many a picture takes only the model knows."""
    return sum(attach.tokens_in(part) for part in parts_of(message["content"]) if isinstance(part, str))


def joins(before: Message, message: Message) -> bool:
    """Two plain messages of one side."""
    return before.keys() == message.keys() == {"role", "content"} and before["role"] == message["role"]


def as_told(turn: ChatTurn) -> str:
    if turn.role == "note":
        return f"{SUMMARY}\n\n{turn.content}" if turn.content else ""
    return attach.with_files(turn.content, attach.read(turn.files))
