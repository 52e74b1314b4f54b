"""The dialects that are spoken. To add one: a file beside this one, and a line in the table."""

from __future__ import annotations

from ..dialect import Dialect, Plain
from .openai_chat import ChatCompletions
from .openai_completions import Completions

DIALECTS: tuple[Dialect, ...] = (ChatCompletions(), Completions())
PLAINS: tuple[Plain, ...] = ()
