"""A Mac's way of mapping on a machine that has none: memory is taken as strictly as Metal takes it, and then copied.

`metal` stands for MLX's `asarray(copy=False)`, which adopts nothing on a CPU. What it is handed it checks: whole pages
of a Mac, at most so many bytes. The windows that it has taken are kept until `forget`, as MLX keeps a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from mlxrun.weights.adopted import Adoption

PAGE = 16384  # of Apple's processors


@dataclass
class FakeMetal:
    longest: int = 1 << 30
    taken: list[np.ndarray] = field(default_factory=list)

    def take(self, words: np.ndarray) -> mx.array:
        if words.ctypes.data % PAGE or words.nbytes % PAGE or not 0 < words.nbytes <= self.longest:
            raise ValueError("[convert] Cannot import a CPU array without a copy.")
        assert not words.flags.writeable
        self.taken.append(words)
        return mx.array(words)

    def forget(self) -> None:
        self.taken.clear()

    @property
    def adoption(self) -> Adoption:
        return Adoption(self.take, PAGE, self.longest)
