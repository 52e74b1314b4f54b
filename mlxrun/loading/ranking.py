"""How a model ranks texts: by the head of a cross-encoder, or by whether it would rather write yes or no.

The second is read from what sentence-transformers writes beside a model: its module LogitScore names the two tokens,
and the chat template knows the roles query and document.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .open import OpenedModel
from .pooling import mapping, modules_of

SCORE = "LogitScore"


@dataclass(frozen=True, slots=True)
class RankingForm:
    words: tuple[int, int | None] | None = None  # a yes and perhaps a no; None: the head of an encoder tells
    system: str = ""  # what the model is told first
    opens: bool = False  # its answer is begun for it


def ranking_form(opened: OpenedModel) -> RankingForm | None:
    """None: it ranks nothing."""
    if isinstance(opened.found, Exception):
        return None
    spec = opened.recipe.decoder
    if spec.kind == "encoder":
        return None if spec.ranking is None else RankingForm()
    if opened.checkpoint.dialect == "gguf":
        return None
    try:
        return _written(opened.checkpoint.path, spec.vocab)
    except (ValueError, OSError):
        return None


def _written(folder: Path, vocab: int) -> RankingForm | None:
    modules = modules_of(folder)
    if [kind for kind, _ in modules] != ["Transformer", SCORE]:
        return None
    told = mapping(modules[1][1] / "config.json")
    yes, no = told.get("true_token_id"), told.get("false_token_id")
    if (
        not isinstance(yes, int)
        or not isinstance(no, int | None)
        or not all(0 <= one < vocab for one in (yes, no or 0))
    ):
        return None
    asked, first = mapping(folder / "sentence_bert_config.json"), mapping(folder / "config_sentence_transformers.json")
    template = (asked.get("processing_kwargs") or {}).get("chat_template") or {}
    system = (first.get("prompts") or {}).get(first.get("default_prompt_name")) or ""
    return RankingForm((yes, no), str(system), template.get("add_generation_prompt") is True)
