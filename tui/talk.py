"""One conversation and its place on disk: every change is saved as it is made. Knows no widgets and no model."""

from __future__ import annotations

from .sessions import ChatTurn, Sessions

Message = dict[str, str]


class Talk:
    def __init__(self, sessions: Sessions, session: int | None = None) -> None:
        """Without a session it is a new one, which is written with the first letter."""
        self._sessions, self.session = sessions, session
        found = None if session is None else sessions.get(session)
        self.title = found.title if found else ""
        self.saved_draft = found.draft if found else ""
        self.turns: list[ChatTurn] = [] if session is None else sessions.turns(session)

    @property
    def unanswered(self) -> bool:
        return bool(self.turns) and self.turns[-1].role == "user"

    @property
    def last_said(self) -> ChatTurn | None:
        return next((turn for turn in reversed(self.turns) if turn.role == "user"), None)

    @property
    def last_answer(self) -> ChatTurn | None:
        return next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)

    def draft(self, text: str) -> None:
        if text or self.session is not None:
            self._sessions.draft(self._kept(), text)

    def say(self, text: str, instead_of: ChatTurn | None = None) -> ChatTurn:
        if instead_of is not None:
            self.cut(instead_of)
        turn = self._sessions.say(self._kept(), text)
        self.turns.append(turn)
        self.refresh()
        return turn

    def answer(self, model: str) -> ChatTurn:
        turn = self._sessions.answer(self._kept(), model)
        self.turns.append(turn)
        return turn

    def save(self, turn: ChatTurn) -> None:
        """That turn as it is now."""
        self._sessions.save(turn)
        self.turns = [turn if old.id == turn.id else old for old in self.turns]

    def cut(self, turn: ChatTurn) -> None:
        """Forget it and all that came after it."""
        self._sessions.cut(self._kept(), turn.id)
        self.turns = [old for old in self.turns if old.id < turn.id]
        self.refresh()

    def messages(self) -> list[Message]:
        """As a model is asked. Two messages in a row of one side, as an interruption leaves them, become one."""
        told: list[Message] = []
        for turn in self.turns:
            if told and told[-1]["role"] == turn.role:
                told[-1] = {"role": turn.role, "content": f"{told[-1]['content']}\n\n{turn.content}"}
            else:
                told.append({"role": turn.role, "content": turn.content})
        return told

    def refresh(self) -> None:
        """The title may have changed elsewhere."""
        found = None if self.session is None else self._sessions.get(self.session)
        self.title = found.title if found else ""

    @property
    def exists(self) -> bool:
        """False: it was deleted in the list of sessions."""
        return self.session is None or self._sessions.get(self.session) is not None

    def _kept(self) -> int:
        if self.session is None:
            self.session = self._sessions.create()
            self._sessions.remember("session", str(self.session))
        return self.session
