"""What a run needs to go on as if it had never ended, in one file that takes its place in one step; and the adapter
that comes of it, in PEFT's files.

A state belongs to one configuration, data and model: what differs is told, and nothing goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from safetensors.numpy import save_file

from ..adapters.files import CONFIG, PEFT_FILE
from ..memory.disk import told_when_full
from ..spec import ModelError
from ..weights.checkpoint import read_file
from ..weights.files import size_of
from ..weights.headers import read_header
from .config import TrainConfig
from .pairs import Pairs, Trained, peft_config, peft_tensors

STATE, LOG = "state.safetensors", "log.jsonl"
VERSION = "1"
Flat = list[tuple[str, mx.array]]
FREE = {"out", "save", "evaluate", "evaluate_every", "samples"}  # may differ from one start to the next


@dataclass(frozen=True)
class TrainState:
    step: int  # that are done
    trained: Trained
    optimizer: dict[str, Any]


def fingerprint(config: TrainConfig, data: str, model: str) -> dict[str, Any]:
    """All that decides what comes out; `data`, `model`: digests."""
    told = {key: value for key, value in asdict(config).items() if key not in FREE}
    told = {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
    told.pop("data"), told.pop("model")
    return {**told, "data": data, "model": model, "version": VERSION}


def save_state(out: Path, state: TrainState, made_of: Mapping[str, Any]) -> None:
    arrays = {f"trained.{name}": array for name, array in state.trained.items()}
    arrays |= {f"optimizer.{name}": array for name, array in cast(Flat, tree_flatten(state.optimizer))}
    _write(out / STATE, arrays, {"training": json.dumps({"step": state.step, "made_of": made_of})})


def load_state(out: Path, made_of: Mapping[str, Any]) -> TrainState:
    file = out / STATE
    if not file.exists():
        raise ModelError(f"There is nothing to go on with: {file} is not there.")
    told = read_header(file).metadata
    try:
        training = json.loads(told["training"])
        before, step = dict(training["made_of"]), int(training["step"])
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{file} is no state of a training.") from error
    other = sorted(key for key in made_of if before.get(key) != made_of[key])
    if other:
        raise ModelError(
            f"{file} is of a training with another {' and '.join(other)}; "
            "go on as it began, or begin anew in another out."
        )
    arrays = read_file(file)
    trained = {name.removeprefix("trained."): a for name, a in arrays.items() if name.startswith("trained.")}
    rest = [(name.removeprefix("optimizer."), a) for name, a in arrays.items() if name.startswith("optimizer.")]
    return TrainState(step, trained, tree_unflatten(rest))


def save_adapter(out: Path, config: TrainConfig, pairs: Pairs, trained: Trained) -> None:
    told = json.dumps(peft_config(config, pairs.shapes), indent=2)
    with _aside(out / CONFIG) as aside:
        aside.write_text(told + "\n", encoding="utf-8")
    _write(out / PEFT_FILE, peft_tensors(trained), {"format": "pt"})


def _write(file: Path, arrays: Mapping[str, mx.array], metadata: dict[str, str]) -> None:
    with _aside(file) as aside:
        save_file({name: np.array(array) for name, array in arrays.items()}, aside, metadata)  # in the order of names


@contextmanager
def _aside(file: Path) -> Any:
    """Takes the place of the file once it is whole and on the disk."""
    aside = file.with_name(f".{file.stem}.making{file.suffix}")
    with told_when_full(file, file.parent, "name an out on another disk"):
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.chmod(0o644)
        os.replace(aside, file)


def digest_of_files(files: tuple[str, ...]) -> str:
    made = hashlib.sha256()
    for file in files:
        with Path(file).open("rb") as opened:
            made.update(hashlib.file_digest(opened, "sha256").digest())
    return made.hexdigest()


def digest_of_model(files: tuple[Path, ...]) -> str:
    """By names and sizes: weights are many."""
    return hashlib.sha256(repr([(file.name, size_of(file)) for file in files]).encode()).hexdigest()
