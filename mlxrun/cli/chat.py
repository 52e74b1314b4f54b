"""A chat in the terminal. Ctrl-C stops the answer and not the program; Ctrl-D leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..core import Constraint, Finish, RequestError, Sampling
from ..spec import ModelError
from .terminal import answer, aside, say, thought

if TYPE_CHECKING:
    from ..assistant import Assistant
    from ..client.tools import Functions
    from ..client.types import Reply
    from ..turns import Content, Picture
    from .kept import KeptConversation

    Message = dict[str, str | list[Content]]

Write = Callable[[str], None]

PROMPT = ">>> "
COMMAND = re.compile(r"/[A-Za-z?]+")  # alone on its line; a path or a sentence goes to the model
COMMANDS = "/reset begins anew, /exit or Ctrl-D leaves, Ctrl-C stops an answer."


class Asker:
    """Prompts go in one after the other; it remembers what was said, unless it only completes text."""

    functions: Functions | None = None  # that the model may call

    def __init__(
        self,
        assistant: Assistant,
        sampling: Sampling,
        max_tokens: int | None,
        system: str | None,
        raw: bool,
        constraint: Constraint | None = None,
    ) -> None:
        from ..assistant import Wish

        self._assistant, self._raw = assistant, raw
        self._wish = Wish(max_tokens, sampling, constraint=constraint)
        self._kept: KeptConversation | None = None
        self._system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[Message] = list(self._system)
        self._shown: tuple[Picture, ...] = ()

    def show(self, pictures: Sequence[Picture]) -> None:
        """Before the next prompt."""
        if pictures and self._raw:
            raise RequestError("Only a chat can show pictures: leave out --raw or --image.")
        self._shown = tuple(pictures)

    def keep(self, kept: KeptConversation) -> None:
        """Go on with what is kept there, and keep what comes. A system message of now is in place of the old one."""
        self._kept, said = kept, kept.read()
        if self._system:
            said = [message for message in said if message["role"] != "system"]
        self.messages = [*self._system, *said]

    def reset(self) -> None:
        self._remember(list(self._system))

    def __call__(self, prompt: str, write: Write = answer, think: Write = thought) -> Reply:
        from .conversation import follow

        if self._raw:
            return follow(self._assistant.complete(prompt, self._wish)[0], write, think)
        if not prompt.strip():
            raise RequestError("The prompt is empty.")
        content: str | list[Content] = [*self._shown, prompt] if self._shown else prompt
        said: list[Message] = [*self.messages, {"role": "user", "content": content}]
        if self.functions is None:
            reply = follow(self._assistant.chat(said, self._wish), write, think)
        else:
            reply = self._with_tools(self.functions, said, write, think)
        self._shown = ()
        self._remember([*said, {"role": "assistant", "content": reply.text}])
        return reply

    def _with_tools(self, functions: Functions, said: Sequence[Message], write: Write, think: Write) -> Reply:
        from ..client.client import ROUNDS
        from ..text.conversation import turns_of
        from ..turns import Ask
        from .conversation import follow

        def ask(messages: Sequence[Mapping[str, Any]], may_call: bool) -> Reply:
            asked = Ask(turns_of(messages), functions.tools if may_call else ())
            return follow(self._assistant.answer(asked, self._wish)[0], write, lambda text: None)

        return functions.answered(ask, said, ROUNDS)

    def _remember(self, messages: list[Message]) -> None:
        self.messages = messages
        if self._kept is not None:
            self._kept.write(messages)


def loop(ask: Asker) -> int:
    with suppress(ImportError):
        import readline  # noqa: F401 line editing and history for input()
    aside(COMMANDS)
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            answer("\n")
            return 0
        except KeyboardInterrupt:
            answer("\n")
            aside(COMMANDS)
            continue
        if line.strip() == "/exit":
            return 0
        if line.strip() == "/reset":
            ask.reset()
            aside("What was said is forgotten.")
        elif line.strip() == "/help":
            aside(COMMANDS)
        elif COMMAND.fullmatch(line.strip()):
            aside(f"There is no {line.strip()}: {COMMANDS}")
        elif line.strip():
            turn(ask, line)


def turn(ask: Asker, line: str) -> None:
    try:
        reply = ask(line)
    except (RequestError, ModelError) as error:
        say(str(error))  # the conversation stays as it was before the question
        return
    answer("\n")
    aside(summary(reply))


def summary(reply: Reply) -> str:
    """How the answer ended and how fast it came."""
    how = {Finish.LENGTH: "cut at the limit, ", Finish.CANCELLED: "stopped, "}.get(reply.finish, "")
    usage = reply.usage
    if usage is None:
        return f"[{how.rstrip(', ') or 'done'}]"
    read = usage.prompt_tokens - usage.cached_tokens
    parts = [f"{read} tokens read in {usage.prefill_seconds:.1f} s", f"{usage.output_tokens} written"]
    if usage.output_tokens > 1 and usage.decode_seconds > 0:
        parts.append(f"{(usage.output_tokens - 1) / usage.decode_seconds:.1f} tokens/s")
    return f"[{how}{', '.join(parts)}]"
