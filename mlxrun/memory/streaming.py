"""A mixture of experts of which a share stays on disk: what must be in memory, and what every token then reads.

In memory are all weights but experts, and of those as many as there is room for, at least one whole layer's, because a
prompt may choose all of a layer. Which they are decides itself while the model runs. The cost is foretold as if experts
were chosen evenly, so true models, which prefer some, read less; the disk's rate is assumed and not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from .need import Need

RATE = 2e9  # bytes a second, assumed: what a common NVMe disk reads in pieces of a megabyte
SPARE = 128 << 20  # bytes that experts do not get, for what a plan only estimates
EDGES = 1 << 16  # bytes of pages that a layer shares with what lies beside it


@dataclass(frozen=True, slots=True)
class Streaming:
    need: Need  # the same, with the share that stays in memory
    experts: int  # bytes of all experts

    @property
    def missing(self) -> float:
        """The share of the experts that is on disk."""
        return self.need.on_disk / self.experts

    @property
    def read(self) -> int:
        """Bytes that a token reads from disk."""
        return round(self.missing * self.need.weights.experts_read)

    @property
    def seconds(self) -> float:
        """That a token waits for them."""
        return self.read / RATE
