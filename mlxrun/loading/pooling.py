"""How a model's rows become a text's vectors: read from what sentence-transformers or a GGUF file writes beside it.

Where nobody says, an encoder's rows are averaged and a decoder's last one is taken, which has seen all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import LateForm, Pooling
from ..weights import Checkpoint
from .dense_step import DenseStep, read_dense
from .late import MASK, flat_form, masked_form
from .open import OpenedModel

MODULES = "modules.json"
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
HEARS = "it writes down speech, and has no vectors for texts"
MOST = 1 << 20  # bytes of such a file
LONGEST = 1 << 16  # letters of a prompt


@dataclass(frozen=True, slots=True)
class EmbeddingForm:
    pooling: Pooling
    both_ways: bool  # every row sees all others
    size: int  # numbers of a vector; 0: not known
    lengths: tuple[int, ...] = ()  # that its vectors may be cut to, because it was trained so
    why_not: str | None = None  # what in its files is not understood: it gives no vectors then
    steps: tuple[DenseStep, ...] = ()  # behind the pooling
    prompts: Mapping[str, str] = field(default_factory=dict)  # by name: what is put before a text
    prompt: str | None = None  # the name of the one that is put there where nobody says
    pools_prompt: bool = True  # its rows count among those that are pooled
    longest: int | None = None  # tokens that a text is cut to, where it may be cut
    lower: bool = False  # texts are read in small letters
    late: LateForm | None = None  # it has a vector for each token; None: one for each text

    def refuses(self, size: int | None) -> str | None:
        """Which lengths there are, where that is none of them."""
        if size is None or size == self.size or size in self.lengths:
            return None
        return ", ".join(map(str, sorted({*self.lengths, self.size})))


def embedding_form(opened: OpenedModel) -> EmbeddingForm:
    spec = None if isinstance(opened.found, Exception) else opened.recipe.decoder
    both_ways, size = spec is not None and spec.kind == "encoder", 0 if spec is None else spec.dim
    if spec is not None and opened.recipe.listener is not None:
        return EmbeddingForm(Pooling.LAST, both_ways, size, (), HEARS)
    usual = Pooling.MEAN if both_ways else Pooling.LAST
    checkpoint = opened.checkpoint
    if spec is not None and spec.ranking is not None:
        return EmbeddingForm(usual, both_ways, size, (), RANKS)
    if checkpoint.dialect == "gguf":
        kind = checkpoint.metadata.get(f"{checkpoint.metadata.get('general.architecture')}.pooling_type")
        why_not = RANKS if kind == GGUF_RANK else None
        return EmbeddingForm(GGUF.get(kind, usual) if isinstance(kind, int) else usual, both_ways, size, (), why_not)
    try:
        return written_form(checkpoint, both_ways, size, usual)
    except (ValueError, OSError) as error:
        return EmbeddingForm(usual, both_ways, size, why_not=str(error))


def written_form(checkpoint: Checkpoint, both_ways: bool, size: int, usual: Pooling) -> EmbeddingForm:
    folder, pooling, steps, pools_prompt, width = checkpoint.path, usual, list[DenseStep](), True, size
    modules = modules_of(folder)
    for kind, path in modules:
        if kind == "Pooling":
            pooling, pools_prompt = pooling_of(path)
        elif kind == "Dense":
            steps.append(read_dense(path, mapping(path / "config.json"), width))
            width = steps[-1].size
        elif kind not in ("Transformer", "Normalize", MASK):
            raise ValueError(f"{MODULES} has a module of the kind {kind!r}, which is not there yet")
    first, second = mapping(folder / "sentence_bert_config.json"), mapping(folder / "config_sentence_transformers.json")
    prompts, longest = prompts_of(second), first.get("max_seq_length")
    named = second.get("default_prompt_name")
    return EmbeddingForm(
        pooling,
        both_ways,
        width,
        tuple(length for length in trained_lengths(checkpoint) if 0 < length < width),
        None,
        tuple(steps),
        prompts,
        named if isinstance(named, str) and named in prompts else None,
        pools_prompt,
        longest if isinstance(longest, int) and longest > 0 else None,
        first.get("do_lower_case") is True,
        late_form(dict(modules), first, second, prompts),
    )


def late_form(
    modules: Mapping[str, Path], first: Mapping[str, Any], second: Mapping[str, Any], prompts: Mapping[str, str]
) -> LateForm | None:
    """`first`, `second`: sentence_bert_config.json and config_sentence_transformers.json."""
    if MASK in modules:
        return masked_form(mapping(modules[MASK] / "config.json"), first, prompts, LONGEST)
    return None if "Pooling" in modules or not modules else flat_form(second)


def modules_of(folder: Path) -> Sequence[tuple[str, Path]]:
    """What a text goes through, in order, each with its folder; nothing where nothing is written."""
    modules = read(folder / MODULES)
    found = []
    for module in modules if isinstance(modules, list) else ():
        if not isinstance(module, dict):
            raise ValueError(f"{MODULES} must list modules, each with its path and type")
        path = str(module.get("path"))
        if path == ".." or (path and Path(path).name != path):
            raise ValueError(f"{MODULES} names a folder {path[:40]!r} that is not beside it")
        found.append((str(module.get("type")).rpartition(".")[2], folder / path))
    return found


def pooling_of(folder: Path) -> tuple[Pooling, bool]:
    """And whether the rows of a prompt count."""
    told = mapping(folder / "config.json")
    named = told.get("pooling_mode")
    known = [NAMES.get(str(named))] if named is not None else [MODES.get(mode) for mode in told if is_on(mode, told)]
    if len(known) != 1 or known[0] is None:
        raise ValueError(f"{folder.name}/config.json asks for a pooling that is not there yet")
    return known[0], told.get("include_prompt") is not False


def is_on(mode: str, told: Mapping[str, Any]) -> bool:
    return mode.startswith("pooling_mode_") and told[mode] is True


def prompts_of(told: Mapping[str, Any]) -> Mapping[str, str]:
    found = told.get("prompts")
    if not isinstance(found, dict):
        return {}
    return {name: text for name, text in found.items() if isinstance(text, str) and len(text) <= LONGEST}


def trained_lengths(checkpoint: Checkpoint) -> tuple[int, ...]:
    lengths = (read(checkpoint.path / "config.json") or {}).get("matryoshka_dimensions") or ()
    return tuple(length for length in lengths if isinstance(length, int)) if isinstance(lengths, list) else ()


def mapping(path: Path) -> Mapping[str, Any]:
    found = read(path)
    return found if isinstance(found, dict) else {}


def read(path: Path) -> Any:
    """None: there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return json.loads(opened.read(MOST))
