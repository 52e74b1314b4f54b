"""A model type that we have no recipe for, on mlx-lm's class, behind the engine's own interface.

Sequences run one by one: mlx-lm's padded batches are wrong for recurrent models. Where its answers
are known to be wrong we refuse, and so we do everywhere until a person says otherwise: nobody has checked
them, and a class drops keys of a config that it does not read in silence. It is imported here and only
when needed: the import takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from .. import gpu
from ..compat import quiet_import
from ..contracts import HeardWindow, LayerMemory, SequenceMemory, SoftRows, Turns
from ..families import UnknownFamily
from ..families.config import Config
from ..memory.machine import available_bytes
from ..nn.listener import ListenerModel
from ..nn.tower import TowerModel
from ..ops.adapters import Adapter
from ..ops.device import Device, this_device
from ..spec import ModelError
from .model import NOTHING, Holdings
from .options import Progress, ignore_progress
from .used import Used

DEFAULT_CONTEXT = 4096  # where config.json promises none
WIDEN_SHARE = 0.7  # of the free memory, what float32 weights may take on a CPU

# Types whose class in mlx-lm 0.32 computes something else than its authors' reference, and the part that differs.
KNOWN_WRONG = {
    "gpt_neox": "the exact GELU",
    "gpt_oss": "YaRN without truncation",
    "jamba": "the weights of chosen experts, and padded batches",
    "llama4": "chunked attention in batches",
    "mamba": "padded batches",
    "falcon_mamba": "padded batches",
    "mamba2": "the grouped norm",
    "mistral": "the sliding window",
    "nemotron_h": "padded batches",
    "olmo": "the layout; it ends the whole program",
    "phi3": "short contexts under longrope",
}


@dataclass
class FallbackMemory:
    caches: list[Any]  # mlx-lm's, one a layer
    context: int
    length: int = 0
    adapter: Adapter | None = None
    heard: HeardWindow | None = None
    layers: Sequence[LayerMemory | None] = ()  # mlx-lm's classes are handed their own
    store: None = None
    points: Sequence[int] = ()

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays())

    def fork(self) -> None:
        """It cannot be had twice: mlx-lm's caches are written in place."""

    def reusable(self, length: int) -> int:
        """Only where it stands: mlx-lm's windows say nothing when they cannot go back."""
        return length if length == self.length else 0

    def rewind(self, length: int) -> bool:
        return length == self.length

    def arrays(self) -> list[mx.array]:
        states = cast(list[tuple[str, Any]], tree_flatten([cache.state for cache in self.caches]))
        return [array for _, array in states if isinstance(array, mx.array)]


@dataclass(frozen=True)
class FallbackModel:
    model: Any
    family: str
    vocab: int
    context: int
    notes: tuple[str, ...]
    holdings: Holdings = NOTHING
    device: Device = field(default_factory=this_device)

    def planned_bytes(self, tokens: int, rows: int) -> int:
        return 0  # nobody knows, and without a budget nobody asks

    def prefixes(self, context: int, limit: int) -> None:
        return None

    @property
    def paged_bytes(self) -> int:
        return 0

    def give_back(self) -> None:
        """MLX has all of it."""

    def new_sequence(self, context: int | None = None) -> FallbackMemory:
        from mlx_lm.models.cache import make_prompt_cache

        return FallbackMemory(make_prompt_cache(self.model), context or self.context)

    @property
    def tower(self) -> TowerModel | None:
        return None

    @property
    def listener(self) -> ListenerModel | None:
        return None

    def heard(self, rows: mx.array) -> HeardWindow:
        raise AssertionError("nothing listens here")

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[SequenceMemory, int]],
        soft: SoftRows | None = None,
        turns: Turns | None = None,
        *,
        seen: Sequence[int] = (),
    ) -> mx.array:
        """(T,) -> (T, vocab): mlx-lm's classes end at the logits, so these stand for the hidden rows."""
        rows, start = [], 0
        for memory, count in sequences:
            assert isinstance(memory, FallbackMemory)
            rows.append(self.model(ids[None, start : start + count], cache=memory.caches)[0])
            memory.length += count
            start += count
        return rows[0] if len(rows) == 1 else mx.concatenate(rows)

    def logits(self, hidden: mx.array) -> mx.array:
        return hidden

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        raise ModelError(f"{self.family} has no head that ranks texts through mlx-lm.")

    def best(self, hidden: mx.array) -> mx.array | None:
        return None


def load_fallback(
    path: Path,
    config: Mapping[str, Any],
    unknown: UnknownFamily,
    dtype: mx.Dtype | None = None,
    *,
    unchecked: bool = False,
    progress: Progress = ignore_progress,
) -> FallbackModel:
    """Raises `unknown` again, with its reason, where mlx-lm cannot or must not run this model. `unchecked`: a person
    wants it although nobody has compared that class's answers with its authors'."""
    text = text_half(config)
    family = str(config.get("model_type"))
    refuse_what_is_wrong(family, text, unknown)
    if not unchecked and has_class(family):
        raise ModelError(
            f"{unknown} mlx-lm has a class for it, whose answers nobody has checked here; "
            f"--unchecked runs it all the same."
        )
    sizes = Config(text)
    vocab = sizes.count("vocab_size")
    context = sizes.count("max_position_embeddings", DEFAULT_CONTEXT)
    with quiet_import():
        try:
            from mlx_lm.utils import load_model

            older = {**config, **older_spelling(config)}
            model, _ = load_model(path, lazy=True, model_config=older)
            notes = set_precision(model, dtype)
        except ModelError:
            raise
        except (Exception, SystemExit) as error:  # other people's loaders raise anything
            raise ModelError(f"{unknown} mlx-lm does not run it either: {reason(error, family)}.") from error
    size = evaluate_parameters(model, progress)
    told = (
        f"The model type {family!r} has no recipe here; mlx-lm's class runs it, one sequence at a time, and nobody has "
        f"checked its answers here."
    )
    holdings = Holdings(used=Used("MLX's own, as mlx-lm's class asks for them", own=size))
    return FallbackModel(model, family, vocab, context, (told, *notes), holdings)


def evaluate_parameters(model: Any, progress: Progress) -> int:
    """All are there before the model is said to be; how many bytes that is."""
    arrays = [array for _, array in cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))]
    done, total = 0, sum(array.nbytes for array in arrays)
    for array in arrays:
        mx.eval(array)
        done += array.nbytes
        progress(done, total)
    return total


def has_class(family: str) -> bool:
    with quiet_import():
        try:
            from mlx_lm import utils

            name = utils.MODEL_REMAPPING.get(family, family)
            return hasattr(import_module(f"mlx_lm.models.{name}"), "ModelArgs")
        except (ImportError, ValueError, SystemExit):  # no such module, or one that ends the program
            return False


WRONG_TENSORS = re.compile(r"(Received|Missing) (\d+) parameters[^\n]*\n(.*)", re.DOTALL)
MISSING_KEYS = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.+)")


def reason(error: BaseException, family: str) -> str:
    """Which tensors or keys its class and the checkpoint do not share; else the first line of what it said."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    wrong = WRONG_TENSORS.match(str(error))
    if wrong:
        names = [line.strip(" ,.") for line in wrong[3].splitlines()]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        if wrong[1] == "Missing":
            return f"the checkpoint lacks {wrong[2]} tensors that its class for {family} needs: {shown}"
        return f"the checkpoint holds {wrong[2]} tensors that its class for {family} has no place for: {shown}"
    missing = MISSING_KEYS.search(lines[0])
    if missing:
        keys = ", ".join(re.findall(r"'(\w+)'", missing[1]))
        return f"config.json lacks {keys}, which its class for {family} needs"
    if isinstance(error, ValueError | SystemExit | OSError):
        return lines[0].rstrip(".")
    return f"its class for {family} fails on this checkpoint ({type(error).__name__}: {lines[0].rstrip('.')})"


def refuse_what_is_wrong(family: str, text: Mapping[str, Any], unknown: UnknownFamily) -> None:
    for name in (family, text.get("model_type")):
        if name in KNOWN_WRONG:
            raise ModelError(f"{unknown} mlx-lm has a class for it that is wrong in {KNOWN_WRONG[name]}.")
    groups, chosen = Config(text).get("n_group", 1), Config(text).get("topk_group", 1)
    if groups != chosen:
        raise ModelError(f"{unknown} mlx-lm picks other experts than the reference when they come in {groups} groups.")


def text_half(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def older_spelling(config: Mapping[str, Any]) -> dict[str, Any]:
    """What to lay over a config of transformers 5: mlx-lm reads rope_theta and rope_scaling, and forgets in silence."""
    changed: dict[str, Any] = {}
    inner = config.get("text_config")
    if isinstance(inner, Mapping):
        changed["text_config"] = {**inner, **older_spelling(inner)}
    rope = config.get("rope_parameters")
    if isinstance(rope, Mapping):
        if any(isinstance(value, Mapping) for value in rope.values()):
            raise ValueError("it reads one rope for all layers, and this config has several")
        moved = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
        scaling = {key: value for key, value in rope.items() if key not in moved}
        kind = scaling.get("rope_type", "default")
        changed |= moved
        changed["rope_scaling"] = None if kind == "default" else {**scaling, "type": kind}
    return changed


def set_precision(model: Any, dtype: mx.Dtype | None) -> list[str]:
    """On a CPU float32, as everywhere else here, if that fits."""
    from mlx_lm.utils import dequantize_model, get_total_parameters

    if dtype is None and gpu.usable():
        return []
    floats = 4 * get_total_parameters(model)
    if dtype is None and floats > WIDEN_SHARE * available_bytes():
        return [f"{floats / 2**30:.1f} GiB for float32 weights is not free, so they run as stored, slowly."]
    if dtype is None:
        dequantize_model(model)
    model.set_dtype(dtype or mx.float32)
    return []
