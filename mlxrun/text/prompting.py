"""What is asked -> what an engine is asked: the prompt in the model's own words, and how its answer is read.

One for each model. Knows no engine and no dialect.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock

from ..core import NO_IDS, Closing, Constraint, RequestError, ShownTile, TokenVocabulary
from ..turns import Ask, Calling, Tool, ToolChoice
from .conversation import TurnWriter
from .effort import Effort
from .free_thoughts import end_of_thoughts
from .lark import MarkerTokens
from .long_text import check_bytes, ids_within
from .pictures import Eyes, PictureRead, placed, read_all, worded
from .quoting import Quoting
from .reasoning_formats import ReasoningFormat, format_of
from .template import ChatTemplate
from .tokenizer import Tokenizer, well_formed
from .tool_formats import CallPlace, InThoughts, RecipientHead, ToolFormat
from .tool_grammar import ToolWords, grammar, left_out, openers, texts_of
from .tool_probe import Probe
from .vocabulary import vocabulary_of


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    text: str  # as the template wrote it, marks round what people wrote included
    tokens: list[int] = field(repr=False)
    thoughts: ReasoningFormat | None = None  # how an answer to it marks them
    calls: ToolFormat | None = None  # how it calls tools; None: nothing in it is a call
    tools: tuple[Tool, ...] = ()  # that it may call
    history: int = 0  # calls that the conversation has already
    constraint: Constraint | None = None  # what an answer to it must be
    banned: frozenset[int] = NO_IDS  # tokens that it must not have
    stops: frozenset[int] = NO_IDS  # tokens that end it, beside those that end any
    closing: Closing | None = None  # what ends thoughts that grow too long
    media: tuple[ShownTile, ...] = ()  # pictures, and where they stand


NO_LIMIT = 1 << 31
HARMONY_BEGINS = "<|start|>assistant"
MOST_TEXT = 128 << 10  # characters of a grammar
KEPT = 16  # grammars of tools


class Prompter:
    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, eyes: Eyes | None = None) -> None:
        """`eyes` None: it sees no pictures."""
        self.tokenizer, self.template, self.eyes = tokenizer, template, eyes
        self.thoughts = format_of(tokenizer, template.sources)
        self.probe = Probe(template, tokenizer)
        self._grammars: OrderedDict[str, Constraint | None] = OrderedDict()
        self._lock = Lock()
        self.effort = Effort(self.probe, template, tokenizer, self.thoughts)

    def prompt(self, ask: Ask, shape: Constraint | None = None, context: int = NO_LIMIT) -> ChatPrompt:
        """`shape`: what is said must be; thoughts before it run free. `context`: tokens that it must leave room in;
        refused as early as can be."""
        check_bytes(sum(len(turn.text) for turn in ask.turns), self.tokenizer, context)  # before anything looks at it
        form, tools = self._format(ask), callable_tools(ask)
        ask = replace(ask, template={**self.effort.variables(ask.thinking), **ask.template})
        prompt = self._prompt(ask, context, tools=form is not None)
        text = prompt.text
        if form is None:
            return replace(prompt, constraint=self._after_thoughts(shape, text))
        if ask.choice.calling is Calling.NONE:
            return self._uncalled(prompt, form, tools, shape)
        constraint = self._grammar(form, tools, ask.choice, shape)
        if isinstance(form.head, RecipientHead):  # its grammar begins with the answer, thoughts and all
            constraint = constraint if text.endswith(HARMONY_BEGINS) else None
            return replace(prompt, calls=form, tools=tools, history=calls_in(ask), constraint=constraint)
        late = form.place is CallPlace.START or form.in_thoughts is InThoughts.TEXT
        if late or shape is not None or ask.choice.calling is Calling.REQUIRED:
            constraint = self._after_thoughts(constraint, text)
        return replace(
            prompt,
            calls=form,
            tools=tools,
            history=calls_in(ask),
            constraint=constraint,
            stops=self._ids(form.stops),
        )

    def _prompt(self, ask: Ask, context: int, *, tools: bool) -> ChatPrompt:
        """Its text, tokens and pictures."""
        model, seen = self.template.model, list[PictureRead]()
        if pictures := self._writer.pictures(ask):
            seen = read_all(pictures, self.eyes, model)
        text = self._writer.rendered(ask)
        if self.eyes is not None and seen:
            text = worded(text, self.eyes, seen, model)
        tokens = ids_within(text, self.tokenizer, context)
        media = placed(tokens, self.eyes, seen, model) if self.eyes is not None and seen else ()
        closing = self.effort.closing(ask.thinking, text, tools=tools)
        return ChatPrompt(text, tokens, self.thoughts, closing=closing, media=media)

    def raw(self, messages: Sequence[Mapping[str, str]], context: int, *, opens: bool) -> list[int]:
        """Messages of whatever roles the template has, in its words. `opens`: the answer is begun."""
        quoting = Quoting(self._markers)
        told = [{**message, "content": quoting.text(well_formed(message["content"]))} for message in messages]
        return ids_within(self.template.render(told, add_generation_prompt=opens), self.tokenizer, context)

    def written(self, ask: Ask, context: int, *, opens: bool) -> list[int]:
        """A conversation's tokens as the template writes them. `opens`: with the answer to it begun."""
        ask = replace(ask, template={**self.effort.variables(ask.thinking), **ask.template})
        text = self._writer.rendered(ask) if opens else self._writer.closed(ask)
        return ids_within(text, self.tokenizer, context)

    def left_out(self, ask: Ask) -> tuple[str, ...]:
        """Words of the tools' schemas that calls are not held to. An error where a tool is strict."""
        found, form = left_out(ask.tools, self.tool_format), self.tool_format
        if form is None or not ask.tools or self._grammar(form, callable_tools(ask), ask.choice, None) is not None:
            return found
        return (*found, "tools.parameters")

    def vocabulary(self) -> TokenVocabulary:
        """What its tokens stand for. Markers are never text."""
        return vocabulary_of(self.tokenizer, frozenset(self._tokens.ids.values()))

    @property
    def tool_format(self) -> ToolFormat | None:
        return self.probe.tool_format if self.template.has_chat else None

    def _uncalled(
        self, prompt: ChatPrompt, form: ToolFormat, tools: tuple[Tool, ...], shape: Constraint | None
    ) -> ChatPrompt:
        """The tools are shown, so that what is cached of the prompt stays good; what opens a call is barred."""
        if isinstance(form.head, RecipientHead) and shape is None:
            barred = self._grammar(form, tools, ToolChoice(Calling.NONE), None)
            return replace(prompt, constraint=barred if prompt.text.endswith(HARMONY_BEGINS) else None)
        if shape is not None:
            return replace(prompt, constraint=self._after_thoughts(shape, prompt.text))
        first = [self._tokens.split(opener)[0] for opener in openers(form)]
        if first and all(isinstance(one, int) for one in first):
            return replace(prompt, banned=frozenset(one for one in first if isinstance(one, int)))
        barred = self._grammar(form, tools, ToolChoice(Calling.NONE), None)
        return replace(prompt, constraint=self._after_thoughts(barred, prompt.text))

    def _grammar(
        self, form: ToolFormat, tools: tuple[Tool, ...], choice: ToolChoice, shape: Constraint | None
    ) -> Constraint | None:
        """Agents ask with the same tools again and again."""
        told = [(tool.name, tool.custom, tool.input, json.dumps(tool.parameters)) for tool in tools]
        key = repr((told, choice.calling, choice.parallel, shape))
        with self._lock:
            if key in self._grammars:
                self._grammars.move_to_end(key)
                return self._grammars[key]
        made = grammar(ToolWords(self._tokens, form, self._others), tools, choice, shape)
        if made is not None and len(made.text) > MOST_TEXT:
            made = self._too_long(len(made.text), tools, choice, shape)
        with self._lock:
            self._grammars[key] = made
            while len(self._grammars) > KEPT:
                self._grammars.popitem(last=False)
        return made

    def _too_long(
        self, length: int, tools: tuple[Tool, ...], choice: ToolChoice, shape: Constraint | None
    ) -> Constraint | None:
        """Calls that nobody insists on are then read and not held to anything, which is told."""
        if choice.calling is Calling.AUTO and shape is None and not any(tool.strict for tool in tools):
            return None
        raise RequestError(
            f"The schemas of the tools come to {length} characters of grammar; at most {MOST_TEXT} can be held to. "
            "Send fewer tools, or leave it to the model whether it calls them."
        )

    def _after_thoughts(self, constraint: Constraint | None, text: str) -> Constraint | None:
        if constraint is None:
            return None
        after, opener = end_of_thoughts(self.tokenizer, self.thoughts, text)
        return replace(constraint, after=after, opener=opener)

    @cached_property
    def _writer(self) -> TurnWriter:
        return TurnWriter(self.probe, self.template, Quoting(self._markers))

    @cached_property
    def _markers(self) -> frozenset[str]:
        """What no message may hold as a token: control tokens, and those that were added for what the template writes
        or for what answers are read by."""
        form = self.tool_format
        spoken = (*self.template.sources, *self.thoughts.markers, *(texts_of(form) if form else ()))
        added = (text for text in (*self.tokenizer.added, *self.thoughts.markers) if not text.isalnum())
        found = {text for text in added if text.strip() and any(text in one for one in spoken)}
        return frozenset(text for text in found if self.tokenizer.added_id(text) is not None).union(
            self.tokenizer.controls
        )

    @cached_property
    def _tokens(self) -> MarkerTokens:
        return MarkerTokens(self.tokenizer, self._markers)

    @cached_property
    def _others(self) -> tuple[int, ...]:
        """Markers that a text may hold all the same: those of thoughts, and what a reader of answers passes over."""
        form = self.tool_format
        calls = {token for text in (texts_of(form) if form else ()) for token in self._tokens.split(text)}
        stops = self._ids(form.stops) if form else NO_IDS
        return tuple(sorted({*self._tokens.ids.values()} - calls - self.tokenizer.eos_ids - stops))

    def _ids(self, texts: tuple[str, ...]) -> frozenset[int]:
        return frozenset(token for text in texts if (token := self.tokenizer.added_id(text)) is not None)

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


def calls_in(ask: Ask) -> int:
    return sum(len(turn.calls) for turn in ask.turns)


def callable_tools(ask: Ask) -> tuple[Tool, ...]:
    """Those that the choice leaves."""
    names = ask.choice.names
    unknown = [name for name in names if name not in {tool.name for tool in ask.tools}]
    if unknown:
        raise RequestError(f"tool_choice names the tool {unknown[0]!r}, which is not among the tools.")
    return tuple(tool for tool in ask.tools if not names or tool.name in names)
