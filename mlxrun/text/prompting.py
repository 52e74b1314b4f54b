"""What is asked -> what an engine is asked: the prompt in the model's own words, and how its answer is read.

One for each model. Knows no engine and no dialect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..core import RequestError
from ..turns import Ask, Calling, Tool
from .conversation import TurnWriter
from .quoting import Quoting
from .reasoning_formats import ReasoningFormat, format_of
from .template import ChatTemplate
from .tokenizer import Tokenizer
from .tool_formats import ToolFormat
from .tool_probe import Probe, markers


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    text: str  # as the template wrote it, marks round what people wrote included
    tokens: list[int] = field(repr=False)
    thoughts: ReasoningFormat | None = None  # how an answer to it marks them
    calls: ToolFormat | None = None  # how it calls tools; None: nothing in it is a call
    tools: tuple[Tool, ...] = ()  # that it may call
    history: int = 0  # calls that the conversation has already


class Prompter:
    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.thoughts = format_of(tokenizer, template.sources)
        self.probe = Probe(template, tokenizer)

    def prompt(self, ask: Ask) -> ChatPrompt:
        form = self._format(ask)
        text = self._conversation.rendered(ask)
        return ChatPrompt(
            text=text,
            tokens=self.tokenizer.encode_quoted(text),
            thoughts=self.thoughts,
            calls=None if ask.choice.calling is Calling.NONE else form,
            tools=callable_tools(ask),
            history=sum(len(turn.calls) for turn in ask.turns),
        )

    @cached_property
    def _conversation(self) -> TurnWriter:
        return TurnWriter(self.probe, self.template, Quoting(self._markers()))

    def _markers(self) -> set[str]:
        """What no message may hold as a token: control tokens, and those that were added for what the template writes
        or for what answers are read by."""
        found = {*self.tokenizer.controls, *self.thoughts.markers}
        sources = self.template.sources
        found |= {text for text in self.tokenizer.added if not text.isalnum() and any(text in one for one in sources)}
        if (form := self.tool_format) is not None:
            found |= {text.strip() for text in markers(form)}
        return {text for text in found if text.strip() and self.tokenizer.added_id(text) is not None} | {
            *self.tokenizer.controls
        }

    @property
    def tool_format(self) -> ToolFormat | None:
        return self.probe.tool_format if self.template.has_chat else None

    def _format(self, ask: Ask) -> ToolFormat | None:
        if not ask.tools:
            return None
        form = self.tool_format
        if form is None:
            raise RequestError(
                f"{self.template.model} cannot call tools: its chat template has no known form for calls. "
                "Leave out tools, or choose a model that was trained to call them."
            )
        return form


def callable_tools(ask: Ask) -> tuple[Tool, ...]:
    """Those that the choice leaves."""
    names = ask.choice.names
    unknown = [name for name in names if name not in {tool.name for tool in ask.tools}]
    if unknown:
        raise RequestError(f"tool_choice names the tool {unknown[0]!r}, which is not among the tools.")
    return tuple(tool for tool in ask.tools if not names or tool.name in names)
