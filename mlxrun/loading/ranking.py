"""How a model ranks texts: by the head of a cross-encoder, or by whether it would rather write yes or no.

The second is read from what sentence-transformers writes beside a model: its module LogitScore names the two tokens,
and the chat template knows the roles query and document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .open import OpenedModel
from .pooling import MODULES, read

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
    modules = read(folder / MODULES)
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules] if isinstance(modules, list) else []
    if kinds != ["Transformer", SCORE]:
        return None
    path = str(modules[1].get("path"))
    if Path(path).name != path:
        return None
    told = _mapping(folder / path / "config.json")
    yes, no = told.get("true_token_id"), told.get("false_token_id")
    if (
        not isinstance(yes, int)
        or not isinstance(no, int | None)
        or not all(0 <= one < vocab for one in (yes, no or 0))
    ):
        return None
    asked, first = (
        _mapping(folder / "sentence_bert_config.json"),
        _mapping(folder / "config_sentence_transformers.json"),
    )
    template = (asked.get("processing_kwargs") or {}).get("chat_template") or {}
    system = (first.get("prompts") or {}).get(first.get("default_prompt_name")) or ""
    return RankingForm((yes, no), str(system), template.get("add_generation_prompt") is True)


def _mapping(path: Path) -> Mapping[str, Any]:
    found = read(path)
    return found if isinstance(found, dict) else {}
