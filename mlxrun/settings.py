"""One typed settings object: defaults < environment < flags.

It reads the environment it is given and nothing else; it knows no file, no model and no command.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from .core import KeyBits

SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMGT]?i?B|)", re.ASCII | re.IGNORECASE)
UNITS = {"": 1, "B": 1} | {
    f"{letter}{i}B": (1024 if i else 1000) ** power for power, letter in enumerate("KMGT", 1) for i in ("", "I")
}


OFF, TEXT, HEADS = "off", "text", "heads"
Kernels = Literal["auto", "mlx", "ours"]
Wire = Literal["off", "own", "weights", "max"]


class SettingsError(ValueError):
    """A setting that makes no sense, told in one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path  # where mlxrun keeps what it fetched
    threads: int | None = None  # None: as many as the machine has cores
    context: int | None = None  # tokens that a session may hold; None: what the model's authors promise
    memory: int | None = None  # bytes that a model may take; None: what the machine has to give
    kernels: Kernels = "auto"  # on a GPU: as measured, MLX's only, or ours wherever they can
    wire: Wire = "weights"  # what of a Mac's memory is kept from being paged out
    draft: str = TEXT  # who proposes tokens that may come next: nobody (off), the text, or that and heads or a model
    queue: int | None = None  # requests that may wait for a model; None: as many as is usual
    prefix_disk: int | None = None  # bytes of what a model has read that may be on disk; None: nothing is
    kv_bits: KeyBits = 16  # of keys and values that a model remembers, where they lie in pages
    tune: bool = True  # whether an idle engine measures what was never measured here

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def kernel_picks(self) -> Path:
        return self.home / "kernels.json"

    @property
    def ready(self) -> Path:
        """Models in the form that this machine computes with; made again where they are missing."""
        return self.home / "ready"

    @property
    def prefixes(self) -> Path:
        """What models have read, for their next start: people's words."""
        return self.home / "prefixes"

    @property
    def quantized(self) -> Path:
        """Copies of models that `--quantize` made; made again where they are missing."""
        return self.home / "quantized"

    def but(
        self,
        *,
        context: int | None = None,
        wire: Wire | None = None,
        draft: str | None = None,
        kv_bits: KeyBits | None = None,
    ) -> Settings:
        """The same with flags laid over it; None means that the flag was not given."""
        context, kv_bits = self.context if context is None else context, kv_bits or self.kv_bits
        return replace(self, context=context, wire=wire or self.wire, draft=draft or self.draft, kv_bits=kv_bits)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    home = os.path.expanduser(environ.get("MLXRUN_HOME", ""))
    if home.startswith("~"):
        raise SettingsError(f"The environment variable MLXRUN_HOME names a person who is not known here: {home!r}.")
    return Settings(
        home=Path(home).absolute() if home else _cache_folder(environ) / "mlxrun",
        threads=_count(environ, "MLXRUN_THREADS"),
        context=_count(environ, "MLXRUN_CONTEXT"),
        memory=_size(environ, "MLXRUN_MEMORY"),
        queue=_count(environ, "MLXRUN_QUEUE"),
        prefix_disk=_size(environ, "MLXRUN_PREFIX_DISK"),
        kernels=cast(Kernels, _choice(environ, "MLXRUN_KERNELS", get_args(Kernels), "auto")),
        wire=cast(Wire, _choice(environ, "MLXRUN_WIRE", get_args(Wire), "weights")),
        draft=environ.get("MLXRUN_DRAFT", "").strip() or TEXT,
        kv_bits=cast(KeyBits, int(_choice(environ, "MLXRUN_KV_BITS", ("16", "8"), "16"))),
        tune=_choice(environ, "MLXRUN_TUNE", ("auto", "off"), "auto") == "auto",
    )


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...], usual: str) -> str:
    text = environ.get(name, "").strip() or usual
    if text not in choices:
        told = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise SettingsError(f"The environment variable {name} must be {told}, not {text!r}.")
    return text


def _size(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    size = bytes_of(text)
    if size is None:
        raise SettingsError(f"The environment variable {name} must be a size such as 8GB or 512MB, not {text!r}.")
    return size


def bytes_of(text: str) -> int | None:
    """Of a size such as 8GB or 512 MiB; None: it is none."""
    found = SIZE.fullmatch(text.strip())
    return None if found is None else int(float(found[1]) * UNITS[found[2].upper()]) or None


def _cache_folder(environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"


def _count(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:18]) < 2**31:
        raise SettingsError(f"The environment variable {name} must be a whole number from 1 on, not {text!r}.")
    return int(text)
