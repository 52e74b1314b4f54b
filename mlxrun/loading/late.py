"""How a model gives a vector for each token, of questions and of texts (ColBERT): read from what PyLate or
sentence-transformers writes beside it. ValueError says in a few words what is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import LateForm

MASK = "MultiVectorMask"
FLAT = ("query_prefix", "document_prefix", "query_length", "document_length", "do_query_expansion", "skiplist_words")
LONGEST = 1 << 16
QUESTION, DOCUMENT = 32, 180  # rows, where nobody says


def flat_form(told: Mapping[str, Any]) -> LateForm | None:
    """PyLate's keys of config_sentence_transformers.json; None: it has none of them."""
    if not any(key in told for key in FLAT):
        return None
    return LateForm(
        _text(told.get("query_prefix", "[Q] "), "query_prefix"),
        _text(told.get("document_prefix", "[D] "), "document_prefix"),
        _length(told.get("query_length"), QUESTION, "query_length"),
        _length(told.get("document_length"), DOCUMENT, "document_length"),
        told.get("do_query_expansion") is not False,
        told.get("attend_to_expansion_tokens") is True,
        None,
        _words(told.get("skiplist_words")),
    )


def masked_form(
    mask: Mapping[str, Any], transformer: Mapping[str, Any], prompts: Mapping[str, str], context: int
) -> LateForm:
    """sentence-transformers' module MultiVectorMask, and what it writes of the transformer before it."""
    tasks = mask.get("skiplist_tasks") or ["document"]
    if tasks not in ("document", ["document"]) or mask.get("keep_only_token_ids"):
        raise ValueError(f"its {MASK} asks for more than texts without some tokens")
    expansion = transformer.get("query_expansion")
    own: Mapping[str, Any] = expansion if isinstance(expansion, dict) else {}
    fills = isinstance(expansion, dict)
    if fills and own.get("strategy") != "fixed":
        raise ValueError(f"questions that are filled by the strategy {own.get('strategy')!r} are not there yet")
    token = own.get("token")
    return LateForm(
        prompts.get("query", ""),
        prompts.get("document", ""),
        _length(own.get("length") or transformer.get("query_length"), context, "query_length"),
        _length(transformer.get("document_length"), context, "document_length"),
        fills,
        own.get("attend") is True,
        token if isinstance(token, str) else None,
        _words(mask.get("skiplist_words")),
    )


def _text(value: object, key: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} of config_sentence_transformers.json is no text")
    return value or ""


def _length(value: object, default: int, key: str) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 4 <= value <= LONGEST:
        raise ValueError(f"{key} is no number of tokens from 4 to {LONGEST}")
    return value


def _words(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()
