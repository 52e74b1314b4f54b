"""The tensors of an adapter -> a change of low rank for each matrix, by that matrix's name in the model's checkpoint.

What changes the mathematics and is not done here is refused by its name: an adapter that is half applied answers
something that nobody trained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from ..spec import ModelError, shown
from ..weights.lowrank import LowRank
from .files import CONFIG, AdapterFile

PREFIX = "base_model.model."
# of PEFT's config: read here; without meaning for the answers once it is trained; and what would change these
READ = {"peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "init_lora_weights"}
SILENT = {
    *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
    *("target_modules", "exclude_modules", "lora_dropout", "fan_in_fan_out", "bias", "modules_to_save"),
    *("layers_to_transform", "layers_pattern", "loftq_config", "eva_config", "megatron_config", "megatron_core"),
    *("runtime_config", "ensure_weight_tying", "corda_config", "target_parameters", "lora_ga_config"),
    "qalora_group_size",  # of use_qalora alone, and there without it
}
# these ways to begin change the model's own weights, and the file holds only what was trained on top
CHANGES_THE_MODEL = ("pissa", "olora", "corda", "loftq", "lora_ga")

Scale = Callable[[str, int], float]  # of the matrix of that name, whose change has that rank


def changes_of(file: AdapterFile) -> dict[str, LowRank]:
    """By the names that matrices have in a checkpoint of the adapter's own dialect."""
    return {"peft": _peft, "mlx": _mlx, "gguf": _gguf}[file.format](file)


# ---- PEFT ---------------------------------------------------------------------------------------


def _peft(file: AdapterFile) -> dict[str, LowRank]:
    config = file.config
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{CONFIG}: an adapter of the type {shown(config.get('peft_type'))} is not read; LORA is.")
    strange = sorted(key for key, value in config.items() if key not in READ | SILENT and value)
    if strange:
        raise ModelError(f"{CONFIG}: {', '.join(map(shown, strange))} would change the answers and is not done here.")
    begun = str(config.get("init_lora_weights")).lower()
    if any(begun.startswith(way) for way in CHANGES_THE_MODEL):
        raise ModelError(
            f"{CONFIG}: init_lora_weights {shown(begun)} changes the model's own weights; convert it to plain LoRA."
        )
    parts = {module: own for module, own in peft_parts(file).items() if not parameters_of(file, module)}
    scale, dora = peft_scale(config), bool(config.get("use_dora"))
    made = {f"{module}.weight": _pair(file, module, own, scale, dora=dora) for module, own in parts.items()}
    return {name: _as_stored(name, pair) for name, pair in made.items()} if config.get("fan_in_fan_out") else made


def _as_stored(name: str, change: LowRank) -> LowRank:
    """Of matrices that the checkpoint holds inputs first (Conv1D)."""
    made = change.transposed()
    if made is None:
        raise ModelError(f"{CONFIG}: DoRA of matrices that lie inputs first ({shown(name)}) is not done here.")
    return made


PEFT_NAME = re.compile(
    r"^(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?$"
)
PARTS = {"lora_A": "a", "lora_B": "b", "lora_magnitude_vector": "magnitude"}
TABLE = {"lora_embedding_A": "b", "lora_embedding_B": "a"}  # (rank, words) and (dim, rank): both lie transposed
BASE = ".base_layer."
NESTED = re.compile(r"(\.base_layer)+$")  # of a module with several such tensors


def peft_parts(file: AdapterFile) -> dict[str, dict[str, mx.array]]:
    """Of each module that has them."""
    parts: dict[str, dict[str, mx.array]] = {}
    for name, tensor in file.tensors.items():
        match = PEFT_NAME.match(name.removeprefix(PREFIX))
        if match is None:
            trained_whole(file, name)
            continue
        table = match["part"] in TABLE
        part = (TABLE if table else PARTS)[match["part"]]
        if part in parts.setdefault(match["module"], {}):
            raise ModelError(f"{file.path.name}: {shown(match['module'])} has {part} twice.")
        parts[match["module"]][part] = tensor.T if table else tensor
    return parts


def trained_whole(file: AdapterFile, name: str) -> str | None:
    """The weight of the model whose place that tensor takes; None: it is a part of a pair."""
    own = name.removeprefix(PREFIX)
    if PEFT_NAME.match(own) is not None:
        return None
    module, _, part = own.replace(BASE, ".").rpartition(".")
    saved = file.config.get("modules_to_save")
    saved = [one for one in saved if isinstance(one, str)] if isinstance(saved, list) else []
    kept = any(f".{module}.".find(f".{one}.") >= 0 for one in saved)
    trained = part == "bias" and file.config.get("bias") in ("all", "lora_only")
    if not (kept or trained or BASE in own) or not module:
        raise ModelError(f"{file.path.name}: the tensor {shown(name)} belongs to nothing that {CONFIG} tells of.")
    return f"{module}.{part}"


def parameters_of(file: AdapterFile, module: str) -> list[str]:
    """The tensors of that module that have adapters, where they have and not the module (PEFT's target_parameters)."""
    told = file.config.get("target_parameters")
    names = [one.rpartition(".") for one in told if isinstance(one, str)] if isinstance(told, list) else []
    plain = NESTED.sub("", f".{module}")
    return [parameter for holder, dot, parameter in names if dot and plain.endswith(f".{holder}")]


def peft_scale(config: Mapping[str, Any]) -> Scale:
    rank, alpha = _positive(config, "r"), _positive(config, "lora_alpha")
    ranks, alphas = _pattern(config, "rank_pattern"), _pattern(config, "alpha_pattern")
    root = bool(config.get("use_rslora"))

    def scale(module: str, found: int) -> float:
        wanted = _by_pattern(ranks, module, rank)
        if found != wanted:
            raise ModelError(f"{CONFIG} says that {shown(module)} has rank {wanted:g}; its tensors have {found}.")
        return _by_pattern(alphas, module, alpha) / (math.sqrt(found) if root else found)

    return scale


def _positive(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ModelError(f"{CONFIG}: {key} must be a number above 0, not {shown(value)}.")
    return float(value)


def _pattern(config: Mapping[str, Any], key: str) -> dict[str, float]:
    pattern = config.get(key) or {}
    if not isinstance(pattern, dict):
        raise ModelError(f"{CONFIG}: {key} must map names to numbers.")
    return {name: _positive(pattern, name) for name in pattern}


def _by_pattern(pattern: Mapping[str, float], module: str, otherwise: float) -> float:
    """The first whose key the name ends with. Keys that are more of a regular expression than that are refused."""
    for key, value in pattern.items():
        plain = key.removeprefix("^").removesuffix("$")
        if re.fullmatch(r"[\w.\\]+", plain) is None:
            raise ModelError(f"{CONFIG}: the pattern {shown(key)} is more than the end of a name, which is not read.")
        plain = plain.replace("\\", "")
        if module == plain or (not key.startswith("^") and module.endswith("." + plain)):
            return value
    return otherwise


# ---- mlx-lm -------------------------------------------------------------------------------------

MLX_NAME = re.compile(r"^(?P<module>.+)\.(?P<part>lora_a|lora_b|m)$")


def _mlx(file: AdapterFile) -> dict[str, LowRank]:
    config = file.config
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise ModelError(f"{CONFIG}: fine_tune_type {shown(kind)} is not read; lora and dora are.")
    told = config.get("lora_parameters")
    value = told.get("scale") if isinstance(told, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{CONFIG}: lora_parameters must have a scale that is a number.")
    parts: dict[str, dict[str, mx.array]] = {}
    for name, tensor in file.tensors.items():
        match = MLX_NAME.match(name)
        if match is None:
            raise ModelError(f"{file.path.name}: the tensor {shown(name)} belongs to no change of low rank.")
        part = {"lora_a": "a", "lora_b": "b", "m": "magnitude"}[match["part"]]
        flat = tensor.ndim == 2 and part != "magnitude"  # experts' lie as (E, rank, in) already
        parts.setdefault(match["module"], {})[part] = tensor.T if flat else tensor
    scale = float(value)
    return {
        f"{module}.weight": _pair(file, module, own, lambda m, r: scale, dora=kind == "dora")
        for module, own in parts.items()
    }


# ---- GGUF ---------------------------------------------------------------------------------------

GGUF_NAME = re.compile(r"^(?P<module>.+)\.weight\.(?P<part>lora_a|lora_b)$")


def _gguf(file: AdapterFile) -> dict[str, LowRank]:
    kind = file.config.get("adapter.type")
    if kind != "lora":
        raise ModelError(f"{file.path.name}: an adapter of the type {shown(kind)} is not read; lora is.")
    if any("alora" in key for key in file.config):
        raise ModelError(f"{file.path.name}: an adapter that begins at invocation tokens (aLoRA) is not read.")
    alpha = file.config.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, int | float) or not 0 <= alpha < 1e6:
        raise ModelError(f"{file.path.name}: adapter.lora.alpha must be a number from 0 on, not {shown(alpha)}.")
    parts: dict[str, dict[str, mx.array]] = {}
    for name, tensor in file.tensors.items():
        match = GGUF_NAME.match(name)
        if match is None:
            raise ModelError(f"{file.path.name}: the tensor {shown(name)} belongs to no change of low rank.")
        parts.setdefault(match["module"], {})[match["part"][-1]] = tensor
    return {
        f"{module}.weight": _pair(file, module, own, lambda m, r: alpha / r if alpha else 1.0, dora=False)
        for module, own in parts.items()
    }


def _pair(file: AdapterFile, module: str, own: Mapping[str, mx.array], scale: Scale, *, dora: bool) -> LowRank:
    who = f"{file.path.name}: {shown(module)}"
    missing = [part for part in ("a", "b", *(("magnitude",) if dora else ())) if part not in own]
    if missing:
        raise ModelError(f"{who} lacks its {' and '.join(missing)}.")
    if "magnitude" in own and not dora:
        raise ModelError(f"{who} has magnitudes, but {CONFIG} says nothing of DoRA.")
    a, b, magnitude = own["a"], own["b"], own.get("magnitude")
    if a.ndim not in (2, 3) or b.ndim != a.ndim or a.shape[-2] != b.shape[-1] or a.shape[:-2] != b.shape[:-2]:
        raise ModelError(f"{who} has a of shape {a.shape} and b of {b.shape}, which do not belong together.")
    if 0 in a.shape or 0 in b.shape:
        raise ModelError(f"{who} has a of shape {a.shape} and b of {b.shape}: there is nothing in them.")
    if magnitude is not None:
        magnitude = magnitude.reshape(-1)
        if magnitude.shape != (b.shape[-2],):
            raise ModelError(f"{who} has {magnitude.size} magnitudes for {b.shape[-2]} rows.")
    return LowRank(a, b, scale(module, a.shape[-2]), magnitude)
