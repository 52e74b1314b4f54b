"""What a loaded model really uses of this machine, and why not more: what is mapped, what is wired, which kernels.

Whoever loads makes it, the engine adds what only turns out while it runs, and everybody may read it: sentences for
people, plain data for programs. No path is in it. Knows nothing of how any of it is done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

GB = 1e9
MB = 1e6


@dataclass(frozen=True, slots=True)
class Used:
    kernels: str = "MLX's own"  # what multiplies, in words
    mapped: int = 0  # bytes of weights that are pages of files
    files: int = 0  # which they are pages of
    own: int = 0  # bytes of weights in memory of this process's own
    why_not_mapped: str | None = None  # where they could have been, and a person did not forbid it
    wired: int | None = None  # bytes that the system may not page out; None: it may all
    why_not_wired: str | None = None
    wiring_failed: bool = False  # somebody wanted it, and this machine is one for it
    key_bits: int | None = None  # of keys and values that are remembered in pages; None: each sequence keeps its own
    refused: tuple[str, ...] = ()  # a sentence for each kernel that did not do what it was chosen for

    def with_wired(self, wired: int | None, why_not: str | None, *, failed: bool = False) -> Used:
        return replace(self, wired=wired, why_not_wired=why_not, wiring_failed=failed)

    def with_refused(self, refused: tuple[str, ...]) -> Used:
        return replace(self, refused=refused)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it."""
        keys = () if self.key_bits is None else (f"Keys and values are remembered in {self.key_bits} bits.",)
        return (f"Kernels: {self.kernels}.", *self.refused, self.memory, *keys, self.wiring)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """What is not as it should be on such a machine; nobody may miss it."""
        told = [self.memory] if self.why_not_mapped is not None else []
        return (*told, *([self.wiring] if self.wiring_failed else []), *self.refused)

    @property
    def memory(self) -> str:
        count = f"{self.files} file{'s' * (self.files != 1)}"
        told = [f"mapped: {amount(self.mapped)} of {count}"] if self.mapped else []
        told += [f"in memory of its own: {amount(self.own)}"] if self.own or not told else []
        reason = "" if self.why_not_mapped is None else f"; not all is mapped, because {self.why_not_mapped}"
        return f"Weights {', '.join(told)}{reason}."

    @property
    def wiring(self) -> str:
        if self.wired is not None:
            return (
                f"Wired: {amount(self.wired)}{'' if self.why_not_wired is None else f', because {self.why_not_wired}'}."
            )
        return f"Not wired: {self.why_not_wired or 'nobody asked for it'}."

    def data(self) -> dict[str, Any]:
        """For programs, with plain values."""
        return {**asdict(self), "refused": list(self.refused)}


NOTHING_USED = Used()


def amount(size: int) -> str:
    return f"{size / GB:.2f} GB" if size >= GB else f"{size / MB:.1f} MB"
