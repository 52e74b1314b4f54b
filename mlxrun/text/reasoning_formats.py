"""How models mark their thoughts: one entry a format, and which of them a model has.

To add a format, add an entry to FORMATS. A model's format is told by its chat template and by the tokens of its
tokenizer, never by its name. Knows no text and no state: reasoning.py and harmony.py read by these entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ThoughtBlock:
    """Thoughts between two markers. Whether the prompt opens them is seen in the prompt (`reasoning.opens`)."""

    name: str
    open: str
    close: str
    controls: bool = False  # the markers are always tokens of their own; else they may be spelled out as text
    label: str = ""  # text right after the opener, which is a part of it
    answer: tuple[str, str] | None = None  # texts that may stand round what is said after the thoughts

    @property
    def markers(self) -> tuple[str, ...]:
        return self.open, self.close

    @property
    def known_by(self) -> tuple[str, ...]:
        """Texts that a chat template of such a model holds."""
        return (self.open, *(self.answer or ())[:1])


@dataclass(frozen=True, slots=True)
class Channels:
    """Messages with a header that says to whom and on which channel. Its markers are always tokens."""

    name: str
    start: str
    channel: str
    message: str
    ends: tuple[str, ...]
    more: tuple[str, ...]  # other markers that a header may hold
    thoughts: tuple[str, ...]  # the channels that are thoughts; what is on any other is said
    controls: bool = True

    @property
    def markers(self) -> tuple[str, ...]:
        return self.start, self.channel, self.message, *self.ends, *self.more

    @property
    def known_by(self) -> tuple[str, ...]:
        return self.channel, self.message


ReasoningFormat = ThoughtBlock | Channels

THINK = ThoughtBlock("think", "<think>", "</think>")
FORMATS: tuple[ReasoningFormat, ...] = (  # where two are found, the first counts
    Channels(  # gpt-oss: https://cookbook.openai.com/articles/openai-harmony
        *("harmony", "<|start|>", "<|channel|>", "<|message|>"),
        ends=("<|end|>", "<|return|>", "<|call|>"),
        more=("<|constrain|>",),
        thoughts=("analysis",),
    ),
    ThoughtBlock("gemma", "<|channel>", "<channel|>", controls=True, label="thought\n"),  # Gemma 4
    ThoughtBlock("command", "<|START_THINKING|>", "<|END_THINKING|>", controls=True),  # Command A
    ThoughtBlock("mistral", "[THINK]", "[/THINK]", controls=True),  # Magistral, Ministral
    ThoughtBlock("seed", "<seed:think>", "</seed:think>"),  # Seed-OSS
    ThoughtBlock("granite", "<think>", "</think>", answer=("<response>", "</response>")),  # Granite 3.3
    THINK,  # Qwen, DeepSeek, GLM, Kimi, MiniMax, Nemotron and most others
)


def format_of(tokenizer: Tokenizer, templates: Iterable[str]) -> ReasoningFormat:
    """What the model's chat templates speak of; else what its tokenizer has control tokens for; else <think>."""
    possible = [form for form in FORMATS if not form.controls or has_tokens(tokenizer, form)]
    sources = tuple(templates)
    spoken_of = (form for form in possible if any(all(text in source for text in form.known_by) for source in sources))
    return next(spoken_of, None) or next((form for form in possible if form.controls), THINK)


def has_tokens(tokenizer: Tokenizer, form: ReasoningFormat) -> bool:
    needed = form.known_by if isinstance(form, Channels) else form.markers
    return all(tokenizer.added_id(text) is not None for text in needed)
