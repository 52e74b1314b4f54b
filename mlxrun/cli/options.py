"""Flags that several commands share, and what they come to."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ..adapters.names import name_of
from ..core import KeyBits, RequestError, Sampling
from ..settings import HEADS, OFF, Wire

if TYPE_CHECKING:
    from ..engine.registry import Beside
    from ..loading import LoadOptions, OpenedModel
    from ..ops.device import Device
    from ..settings import Settings


def add_model(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    told = "smollm2, a folder, a .gguf file, or org/name[:TAG] of the hub"
    parser.add_argument("model", metavar="MODEL", nargs=None if needed else "?", help=told)


def add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--waive", metavar="KEY", action="append", default=[], help="go on without this config.json key (repeatable)"
    )
    parser.add_argument(
        "--dialect", choices=("hf", "mlx"), help="how the weights are laid out, where the files say it wrongly"
    )


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How a config is read, and what may run it."""
    add_reading(parser)
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="run a model type that has no recipe here on mlx-lm's class, although nobody has checked its answers",
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=float, metavar="T", help="0: always the likeliest token")
    parser.add_argument("--top-p", type=float, metavar="P", help="only the likeliest tokens that make up this share")
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    parser.add_argument("--min-p", type=float, metavar="P", help="only tokens this likely relative to the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer")


def sampling(flags: argparse.Namespace, recommended: Sampling) -> Sampling:
    """Flags over what the model's authors recommend."""
    given = {name: getattr(flags, name) for name in ("temperature", "top_p", "top_k", "min_p", "seed")}
    return replace(recommended, **{name: value for name, value in given.items() if value is not None})


def add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--anyway", action="store_true", help="load although it does not fit into memory")
    add_disk(parser)
    parser.add_argument(
        "--wire",
        choices=get_args(Wire),
        help="what a Mac may not page out: nothing, weights that are not mapped, weights (usual), or all",
    )
    parser.add_argument(
        "--draft",
        metavar="MODEL",
        help="a smaller model with the same tokens, whose guesses this one checks; text (usual): what repeats; "
        "heads: its own prediction head; off",
    )
    add_key_bits(parser)
    parser.add_argument("--no-map", action="store_true", help="read the weights; map no file, and keep none ready")


def add_adapters(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"a LoRA or DoRA adapter (a PEFT or mlx-lm folder, a .gguf file) {which}; without NAME its folder's",
    )


def at_home(path: str | Path) -> Path:
    """With ~ for who that is; unlike Path's own it lets ~nobody be."""
    return Path(os.path.expanduser(path))


def adapters(flags: argparse.Namespace) -> tuple[tuple[str, Path], ...]:
    """Names and places, as flags say them."""
    found: dict[str, Path] = {}
    for given in flags.adapter:
        name, equals, path = given.partition("=")
        place = at_home(path if equals else given).absolute()
        name = name if equals else name_of(place)
        if not name or not name.isprintable() or (equals and not path):
            raise RequestError(f"--adapter wants NAME=PATH, or a PATH whose folder names it, not {given!r}.")
        if not os.path.exists(place):
            raise RequestError(f"There is no adapter at {place}.")
        if name in found:
            raise RequestError(f"Two adapters would be called {name!r}: name them, --adapter NAME=PATH.")
        found[name] = place
    return tuple(found.items())


def one_adapter(flags: argparse.Namespace) -> tuple[tuple[str, Path], ...]:
    found = adapters(flags)
    if len(found) > 1:
        raise RequestError(f"One --adapter answers here, and {len(found)} are named; serve takes several.")
    return found


def add_key_bits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kv-bits",
        type=int,
        choices=get_args(KeyBits),
        help="of keys and values that are remembered: 16 (usual), or on a processor 8, which take half the memory",
    )


def add_disk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experts-on-disk", action="store_true", help="leave experts that do not fit on disk; slow, for CPUs"
    )


def open_flagged(path: Path, flags: argparse.Namespace, device: Device) -> OpenedModel:
    from ..loading import open_model

    waive = frozenset(flags.waive)
    return open_model(path, dialect=flags.dialect, waive=waive, mapped=not flags.no_map, device=device)


def load_options(flags: argparse.Namespace, settings: Settings) -> LoadOptions:
    """What loading needs to know, with progress on a terminal."""
    from ..loading import LoadOptions
    from ..store.resolve import draft_model
    from .progress import Bar

    settings = settings.but(wire=flags.wire, draft=flags.draft, kv_bits=flags.kv_bits)
    ready = None if flags.no_map else settings.ready
    return LoadOptions(
        context=settings.context,
        anyway=flags.anyway,
        experts_on_disk=flags.experts_on_disk,
        unchecked=flags.unchecked,
        memory=settings.memory,
        mapped=not flags.no_map,
        ready=ready,
        prefixes=None if settings.prefix_disk is None else settings.prefixes,
        prefix_bytes=settings.prefix_disk or 0,
        progress=Bar("Preparing the weights"),
        wire=settings.wire,
        kv_bits=settings.kv_bits,
        drafts=settings.draft != OFF,
        draft_model=draft_model(settings),
        draft_heads=settings.draft == HEADS,
    )


def beside_others(how: LoadOptions, beside: Beside, least: int) -> LoadOptions:
    """As it can be loaded beside the models that are there, and no longer than somebody waits for it."""
    from ..engine.registry import NotLoaded

    inner = how.progress

    def progress(done: int, total: int) -> None:
        if beside.stopping():
            raise NotLoaded("Nobody waits for this model any more.")
        inner(done, total)

    return replace(how, others=beside.others, least=None if beside.last else least, progress=progress)
