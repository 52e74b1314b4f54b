"""What every kind of memory answers. Ask it; never look at its type.

A memory belongs to one layer of one sequence. `append` serves attention, `read`/`write` serve
recurrent mixers; everything else is the same question for all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx


class Memory(Protocol):
    @property
    def bytes(self) -> int:
        """Device bytes held."""

    def reusable(self, length: int) -> int:
        """The longest length <= `length` to which this memory could be taken back right now."""

    def rewind(self, length: int) -> bool:
        """Forget everything after `length` tokens; False, and nothing changes, where it cannot."""

    def snapshot(self) -> Any:
        """All that is needed to come back here later; cheap, because arrays are never changed in place."""

    def restore(self, state: Any) -> None: ...

    def arrays(self) -> list[mx.array]:
        """What to evaluate so that the memory stands on its own."""
