"""Names that people type, such as `qwen3:4b`, and where such a model lies with how many bits.

The most bits are taken whose weights fill at most half of the memory that this machine has to give; what is here
already comes first, and `qwen3:4b-8bit` says it outright. Names of repositories are as other people's programs use
them; their sizes are estimates from the number of parameters, and the plan before loading has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..spec import ModelError
from . import hub

SHARE = 0.5
SCALES = 0.5  # bits a weight, beside the codes
BITS = re.compile(r"(?P<name>.+?)-(?P<bits>\d{1,2})bit")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Listed:
    parameters: float
    repository: str  # with {} for the number of bits
    bits: tuple[int, ...]  # that it comes with, most first

    def of(self, bits: int) -> str:
        return self.repository.format(bits)

    def bytes(self, bits: int) -> float:
        return self.parameters * (bits + SCALES) / 8


CATALOGUE = {
    "qwen3:0.6b": Listed(0.60e9, "mlx-community/Qwen3-0.6B-{}bit", (8, 4)),
    "qwen3:1.7b": Listed(1.72e9, "mlx-community/Qwen3-1.7B-{}bit", (8, 6, 4)),
    "qwen3:4b": Listed(4.02e9, "mlx-community/Qwen3-4B-Instruct-2507-{}bit", (8, 6, 5, 4)),
    "qwen3:8b": Listed(8.19e9, "mlx-community/Qwen3-8B-{}bit", (4,)),
    "qwen3:14b": Listed(14.8e9, "mlx-community/Qwen3-14B-{}bit", (8, 4)),
    "qwen3:32b": Listed(32.8e9, "mlx-community/Qwen3-32B-{}bit", (4,)),
    "qwen3:30b-a3b": Listed(30.5e9, "mlx-community/Qwen3-30B-A3B-Instruct-2507-{}bit", (8, 6, 5, 4)),
    "llama3.2:1b": Listed(1.24e9, "mlx-community/Llama-3.2-1B-Instruct-{}bit", (4,)),
    "llama3.2:3b": Listed(3.21e9, "mlx-community/Llama-3.2-3B-Instruct-{}bit", (4,)),
    "mistral:7b": Listed(7.25e9, "mlx-community/Mistral-7B-Instruct-v0.3-{}bit", (4,)),
    "gpt-oss:20b": Listed(20.9e9, "mlx-community/gpt-oss-20b-MXFP4-Q8", (4,)),
}


def repository_for(name: str, usable: Callable[[], int]) -> str | None:
    """org/name on the hub; None: nobody calls a model so. `usable`: bytes that this machine has for a model."""
    wanted, listed = None, CATALOGUE.get(name.lower())
    if listed is None and (pinned := BITS.fullmatch(name.lower())):
        listed, wanted = CATALOGUE.get(pinned["name"]), int(pinned["bits"])
    if listed is None:
        return None
    if wanted is not None:
        if wanted not in listed.bits:
            known = ", ".join(f"{bits}" for bits in listed.bits)
            raise ModelError(f"{name} is not known with {wanted} bits; known are {known}, or name a repository.")
        return listed.of(wanted)
    here = [bits for bits in listed.bits if whole(listed.of(bits))]
    fitting = [bits for bits in here or listed.bits if listed.bytes(bits) <= SHARE * usable()]
    if not fitting and not here:
        least, room = listed.bytes(listed.bits[-1]), usable()
        if least > room:
            raise ModelError(
                f"{name} takes {least / GIB:.1f} GiB with the fewest bits that it is known with, and "
                f"{room / GIB:.1f} GiB can be used here: choose a smaller model."
            )
    return listed.of(fitting[0] if fitting else (here or listed.bits)[-1])


def here(name: str) -> Path | None:
    """The folder of whatever of that name is on this machine, whole or not."""
    listed = CATALOGUE.get(name.lower())
    folders = [hub.cached(listed.of(bits)) for bits in listed.bits] if listed is not None else []
    return next((folder for folder in folders if folder is not None), None)


def whole(repository: str) -> Path | None:
    folder = hub.cached(repository)
    return folder if folder is not None and hub.is_whole(folder) else None
