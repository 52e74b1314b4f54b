"""What a model is and can do, as far as its files tell: for lists of models, before any of them is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..loading.facts import ModelFacts
from ..text.reasoning_formats import FORMATS
from ..text.template import ChatTemplate
from ..text.tool_probe import Probe


@dataclass(frozen=True)
class ModelCard:
    facts: ModelFacts
    template: ChatTemplate
    speaks: bool = True  # an encoder does not: it only gives vectors


def thinks(template: ChatTemplate) -> bool:
    """Whether it speaks of thoughts."""
    sources = template.sources
    return any(all(text in source for text in form.known_by) for form in FORMATS for source in sources)


@lru_cache(maxsize=256)
def calls_tools(template: ChatTemplate) -> bool:
    """Whether it shows tools, in a form that its calls can be read in."""
    shows = template.has_chat and any("tools" in source for source in template.sources)
    return shows and Probe(template).tool_format is not None


def capabilities(template: ChatTemplate, speaks: bool = True) -> list[str]:
    """In Ollama's words."""
    if not speaks:
        return ["embedding"]
    can = {"completion": True, "tools": calls_tools(template), "thinking": thinks(template)}
    return [name for name, able in can.items() if able]
