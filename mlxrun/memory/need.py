"""Which model, and how it is to be used: what a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import Decoder
from ..spec_towers import Towers
from .weights import EXPERTS, Weights

CHUNK = 512  # rows of a prompt in a pass, as the engine takes them


@dataclass(frozen=True, slots=True)
class Need:
    """Of whom, and how used."""

    decoder: Decoder
    weights: Weights
    width: int  # bytes of a value that is computed
    context: int
    parallel: int = 1
    chunk: int = CHUNK
    keys: int | None = None  # bytes of a value of an attention's keys, where those lie in pages
    hot: int | None = None  # bytes of experts that stay in memory, where the others stay on disk
    towers: Towers | None = None  # what sees

    @property
    def on_disk(self) -> int:
        """Bytes of experts that are not in memory."""
        return 0 if self.hot is None else max(0, self.weights.kinds.get(EXPERTS, 0) - self.hot)
