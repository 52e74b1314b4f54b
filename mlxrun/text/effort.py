"""How much may be thought, in the words of one model's chat template; and what ends thoughts that grow too long.

A template has a switch, or levels, or nothing, which is found by rendering. A permission that a model has no use for
is passed over; a demand is refused. Knows no engine.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from ..core import Closing, RequestError
from ..turns import Thinking
from .free_thoughts import SAID
from .reasoning import opens
from .reasoning_formats import Channels, ReasoningFormat
from .template import ChatTemplate
from .tokenizer import Tokenizer
from .tool_probe import Probe

SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "think")
LEVELS = ("reasoning_effort", "thinking_effort", "effort")  # variables that take one of EFFORTS
BUDGETS = ("thinking_budget", "reasoning_budget")  # variables that take a number of tokens
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
USUAL = ("low", "medium", "high")
TOKENS = {"minimal": 256, "low": 1024, "medium": 4096}  # of one block, where a model has no levels


class Effort:
    """Of one model."""

    def __init__(self, probe: Probe, template: ChatTemplate, tokenizer: Tokenizer, form: ReasoningFormat) -> None:
        self._probe, self._template, self._tokenizer, self._form = probe, template, tokenizer, form

    @cached_property
    def can_think(self) -> bool:
        """Whether its template speaks of thoughts, or its vocabulary has tokens for them."""
        if not self._template.has_chat:
            return False
        spoken = any(text in source for text in self._form.known_by for source in self._template.sources)
        known = all(self._tokenizer.added_id(text) is not None for text in self._form.known_by)
        return spoken or known or self.switch is not None or self.levels is not None

    @cached_property
    def switch(self) -> str | None:
        """The variable that turns thoughts on and off."""
        found = (name for name in SWITCHES if name in self._probe.variables)
        return next((name for name in found if self._probe.differs({name: True}, {name: False})), None)

    @cached_property
    def levels(self) -> tuple[str, tuple[str, ...]] | None:
        """The variable that says how much, and the efforts that it takes."""
        for name in LEVELS:
            if name in self._probe.variables and self._probe.differs({name: "low"}, {name: "high"}):
                return name, self._values(name)
        return None

    def _values(self, name: str) -> tuple[str, ...]:
        taken = tuple(effort for effort in EFFORTS if self._probe.takes(**{name: effort}))
        if not self._probe.takes(**{name: "zq"}):
            return taken
        quoted = {word for source in self._template.sources for word in re.findall(r"['\"](\w+)['\"]", source)}
        return tuple(effort for effort in taken if effort in USUAL or effort in quoted)

    def variables(self, wanted: Thinking) -> dict[str, Any]:
        """Of the chat template."""
        if wanted.demanded and wanted.on is not False and not self.can_think:
            raise RequestError(f"{self._template.model} does not support thinking: leave it out of the request.")
        told: dict[str, Any] = {}
        off = wanted.on is False or wanted.effort == "none"
        on = not off and (wanted.on or wanted.effort is not None)
        if (on or off) and self.switch is not None:
            told[self.switch] = bool(on)
        if (wanted.effort is not None or (off and self.switch is None)) and self.levels is not None:
            name, efforts = self.levels
            if nearest := nearest_of(efforts, "none" if off else wanted.effort or "none"):
                told[name] = nearest
        budget = self.budget(wanted)
        names = [name for name in BUDGETS if name in self._probe.variables] if budget is not None else []
        return told | dict.fromkeys(names, budget)

    def budget(self, wanted: Thinking) -> int | None:
        """Tokens of one block of thoughts."""
        if wanted.budget is not None:
            return wanted.budget
        tokens = TOKENS.get(wanted.effort or "")
        return None if tokens is None or self.levels is not None else tokens

    def closing(self, wanted: Thinking, prompt: str, *, tools: bool) -> Closing | None:
        """What ends a block that grows longer; None: nothing has to."""
        budget, form = self.budget(wanted), self._form
        if budget is None or not self.can_think or wanted.on is False:
            return None
        encode = self._tokenizer.encode
        if isinstance(form, Channels):
            opener = form.channel + form.thoughts[0] + form.message
            end = form.ends[0] + form.start + "assistant"
            last = prompt.rpartition(form.start)[2]
            return Closing(
                budget=budget,
                opener=tuple(encode(opener, special=True)),
                closer=tuple(encode(form.ends[0], special=True)),
                forced=tuple(encode(end if tools else end + form.channel + SAID + form.message, special=True)),
                opened=last.endswith(opener),
                spell=self._tokenizer.token_bytes,
            )
        closer = tuple(encode(form.close, special=True))
        return Closing(
            budget=budget,
            opener=tuple(encode(form.open, special=True)),
            closer=closer,
            forced=closer,
            opened=opens(form, prompt),
            spell=self._tokenizer.token_bytes,
        )


def nearest_of(efforts: tuple[str, ...], wanted: str) -> str | None:
    """The one that is least away; of two the lesser."""
    place = {effort: at for at, effort in enumerate(EFFORTS)}
    if wanted not in place:
        raise RequestError(f"The effort must be one of {', '.join(EFFORTS)}, not {wanted!r}.")
    return min(efforts, key=lambda one: (abs(place[one] - place[wanted]), place[one]), default=None)
