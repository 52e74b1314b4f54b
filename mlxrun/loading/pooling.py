"""How a model's rows become one vector of a text: read from what sentence-transformers or a GGUF file writes beside it.

Where nobody says, an encoder's rows are averaged and a decoder's last one is taken, which has seen all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import Pooling
from ..weights import Checkpoint
from .open import OpenedModel

MODULES = "modules.json"
FOLLOWING = ("Transformer", "Pooling", "Normalize")  # all that a text goes through
MODES = {
    "pooling_mode_cls_token": Pooling.FIRST,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_lasttoken": Pooling.LAST,
}
NAMES = {"cls": Pooling.FIRST, "mean": Pooling.MEAN, "max": Pooling.MAX, "lasttoken": Pooling.LAST}
GGUF = {1: Pooling.MEAN, 2: Pooling.FIRST, 3: Pooling.LAST}
GGUF_RANK = 4
RANKS = "it ranks texts, and has no vectors for them"
MOST = 1 << 20  # bytes of such a file


@dataclass(frozen=True, slots=True)
class EmbeddingForm:
    pooling: Pooling
    both_ways: bool  # every row sees all others
    size: int  # numbers of a vector; 0: not known
    lengths: tuple[int, ...] = ()  # that its vectors may be cut to, because it was trained so
    why_not: str | None = None  # what in its files is not understood: it gives no vectors then


def embedding_form(opened: OpenedModel) -> EmbeddingForm:
    spec = None if isinstance(opened.found, Exception) else opened.recipe.decoder
    both_ways, size = spec is not None and spec.kind == "encoder", 0 if spec is None else spec.dim
    usual = Pooling.MEAN if both_ways else Pooling.LAST
    checkpoint = opened.checkpoint
    if spec is not None and spec.ranking is not None:
        return EmbeddingForm(usual, both_ways, size, (), RANKS)
    if checkpoint.dialect == "gguf":
        kind = checkpoint.metadata.get(f"{checkpoint.metadata.get('general.architecture')}.pooling_type")
        why_not = RANKS if kind == GGUF_RANK else None
        return EmbeddingForm(GGUF.get(kind, usual) if isinstance(kind, int) else usual, both_ways, size, (), why_not)
    try:
        pooling, lengths = written_pooling(checkpoint) or usual, trained_lengths(checkpoint)
    except (ValueError, OSError) as error:
        return EmbeddingForm(usual, both_ways, size, why_not=str(error))
    return EmbeddingForm(pooling, both_ways, size, tuple(length for length in lengths if 0 < length < size))


def written_pooling(checkpoint: Checkpoint) -> Pooling | None:
    """None: nothing is written."""
    modules = read(checkpoint.path / MODULES)
    if modules is None:
        return None
    pooling = None
    for module in modules if isinstance(modules, list) else ():
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in FOLLOWING:
            raise ValueError(f"{MODULES} has a module of the kind {kind!r}, which is not there yet")
        if kind == "Pooling":
            pooling = pooling_of(module, checkpoint.path)
    return pooling


def pooling_of(module: Mapping[str, Any], folder: Path) -> Pooling:
    path = str(module.get("path"))
    if Path(path).name != path:
        raise ValueError(f"{MODULES} names a folder {path[:40]!r} that is not beside it")
    told = read(folder / path / "config.json") or {}
    named = told.get("pooling_mode")
    known = [NAMES.get(str(named))] if named is not None else [MODES.get(mode) for mode in told if is_on(mode, told)]
    if len(known) != 1 or known[0] is None:
        raise ValueError(f"{path}/config.json asks for a pooling that is not there yet")
    return known[0]


def is_on(mode: str, told: Mapping[str, Any]) -> bool:
    return mode.startswith("pooling_mode_") and told[mode] is True


def trained_lengths(checkpoint: Checkpoint) -> tuple[int, ...]:
    lengths = (read(checkpoint.path / "config.json") or {}).get("matryoshka_dimensions") or ()
    return tuple(length for length in lengths if isinstance(length, int)) if isinstance(lengths, list) else ()


def read(path: Path) -> Any:
    """None: there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return json.loads(opened.read(MOST))
