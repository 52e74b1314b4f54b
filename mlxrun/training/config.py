"""The file of `mlxrun train`: YAML, read into one value in which every key is known, of its type and in its bounds.

Keys of Axolotl's are taken where they mean the same. A key that nobody knows is an error. Opens no model and no data.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from ..spec import ModelError, shown
from ..weights.files import read_bytes
from .axolotl import translated

MOST_BYTES = 1 << 20
MOST_DEPTH = 20

Method = Literal["lora", "dora"]
Objective = Literal["sft", "dpo", "orpo"]
Loss = Literal["all", "assistant", "last"]
Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    model: str
    data: tuple[str, ...]  # JSONL files
    out: str  # a folder: the adapter, its state, its log
    method: Method = "lora"
    objective: Objective = "sft"
    rank: int = 16
    alpha: float = 32.0  # what the pair makes is multiplied by alpha / rank
    targets: tuple[str, ...] = ()  # ends of matrices' names, such as q_proj; empty: all that an adapter may change
    length: int = 1024  # tokens that are read of a row
    batch: int = 4  # rows at once
    accumulate: int = 1  # times batch: the rows of a step
    packing: bool = False  # batch counts length, filled with whole rows
    epochs: float = 1.0
    steps: int | None = None  # in place of epochs
    rate: float = 2e-4
    schedule: Schedule = "cosine"
    warmup: int = 0  # steps in which the rate grows
    decay: float = 0.0  # of weights, as AdamW means it
    clip: float | None = 1.0  # the longest that a gradient may be
    loss: Loss = "assistant"  # which tokens are learnt
    beta: float = 0.1  # of DPO: how near it stays to the model; of ORPO: the weight of the odds
    evaluate: tuple[str, ...] = ()  # JSONL files whose loss is told and not learnt
    evaluate_every: int | None = None  # steps; None: at the end
    samples: tuple[str, ...] = ()  # prompts, answered whenever it evaluates
    save: int | None = None  # steps from one state that can be resumed to the next; None: at the end
    seed: int = 0


def read_config(path: Path) -> TrainConfig:
    """Paths in it are seen from the file's own folder."""
    raw = read_bytes(path, MOST_BYTES)
    try:
        found = yaml.load(raw, Loader=_Loader)  # which is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or type(error).__name__
        raise ModelError(f"{path.name} is no YAML that can be read{where}: {shown(why)[1:-1]}.") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ModelError(f"{path.name} must be a list of keys and values, such as 'model: smollm2'.")
    config = config_of(found, path.name)
    folder = path.absolute().parent
    seen = {name: tuple(_from(folder, one) for one in getattr(config, name)) for name in ("data", "evaluate")}
    return _replaced(config, **seen, out=_from(folder, config.out))


class _Loader(yaml.SafeLoader):
    """Plain values only. What stands twice, or for something that stands elsewhere, is an error."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(problem="aliases (*name) are not taken here")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise yaml.constructor.ConstructorError(problem="it is nested too deeply")
        made: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return made

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands there twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def config_of(found: Mapping[str, Any], who: str = "The configuration") -> TrainConfig:
    told = translated(found, who)
    known = {field.name for field in fields(TrainConfig)}
    for key in told:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
            raise ModelError(f"{who}: there is no key {shown(key)}; {hint}")
    for key in ("model", "data", "out"):
        if told.get(key) in (None, "", []):
            raise ModelError(f"{who} does not say {key}.")
    made = {key: CHECKS[key](f"{who}: {key}", value) for key, value in told.items() if value is not None}
    config = TrainConfig(**made)
    if "steps" in made and "epochs" in made:
        raise ModelError(f"{who} says steps and epochs; one of them ends the training.")
    if config.packing and config.objective != "sft":
        raise ModelError(f"{who}: packing is for the objective sft; pairs are read side by side.")
    return config


def _replaced(config: TrainConfig, **changes: Any) -> TrainConfig:
    return TrainConfig(**{field.name: getattr(config, field.name) for field in fields(config)} | changes)


def _from(folder: Path, place: str) -> str:
    return str(folder / Path(place).expanduser())


# ---- values -------------------------------------------------------------------------------------

Check = Callable[[str, Any], Any]


def _text(who: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ModelError(f"{who} must be a text, not {shown(value)}.")
    return value


def _texts(who: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(who, one) for one in (value if isinstance(value, list) else [value]))


def _number(low: float, high: float, *, open_low: bool = False) -> Check:
    def check(who: str, value: Any) -> float:
        if isinstance(value, str):  # YAML takes 2e-4 for a text: it wants 2.0e-4
            with suppress(ValueError):
                value = float(value)
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not right or not low <= value <= high or (open_low and value == low):
            bound = "above" if open_low else "from"
            raise ModelError(f"{who} must be a number {bound} {low:g} to {high:g}, not {shown(value)}.")
        return float(value)

    return check


def _whole(low: int, high: int) -> Check:
    def check(who: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(f"{who} must be a whole number from {low} to {high}, not {shown(value)}.")
        return value

    return check


def _one_of(names: tuple[str, ...]) -> Check:
    def check(who: str, value: Any) -> str:
        if value == "full" and "lora" in names:
            raise ModelError(f"{who}: all weights of a model are not trained here yet; lora and dora are.")
        if value not in names:
            raise ModelError(f"{who} must be one of {', '.join(names)}, not {shown(value)}.")
        return str(value)

    return check


def _switch(who: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{who} must be true or false, not {shown(value)}.")
    return value


CHECKS: dict[str, Check] = {
    **dict.fromkeys(("model", "out"), _text),
    **dict.fromkeys(("data", "targets", "evaluate", "samples"), _texts),
    "method": _one_of(get_args(Method)),
    "objective": _one_of(get_args(Objective)),
    "schedule": _one_of(get_args(Schedule)),
    "loss": _one_of(get_args(Loss)),
    "rank": _whole(1, 4096),
    "alpha": _number(0, 1e6, open_low=True),
    "length": _whole(2, 1 << 20),
    **dict.fromkeys(("batch", "accumulate"), _whole(1, 1 << 16)),
    **dict.fromkeys(("steps", "evaluate_every", "save"), _whole(1, 1 << 40)),
    "warmup": _whole(0, 1 << 40),
    "packing": _switch,
    "epochs": _number(0, 1e6, open_low=True),
    "rate": _number(0, 10, open_low=True),
    "decay": _number(0, 10),
    "clip": _number(0, 1e6, open_low=True),
    "beta": _number(0, 1e3, open_low=True),
    "seed": _whole(0, (1 << 63) - 1),
}
