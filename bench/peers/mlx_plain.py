"""mlx-lm on the weights of a llama-like GGUF, as they are or widened to float32, with MLX's own CPU code.

It reads no GGUF itself: the reader is ours, the model class, the cache and every operation are theirs.
"""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx
import numpy as np
from asked import answer, prompt
from mlx_lm.models import cache

from mlxrun.selftest.beside import model_of


class Plain:
    def __init__(self, file: str, options: dict[str, Any]) -> None:
        mx.set_default_device(mx.cpu)
        self.model, self.vocab = model_of(file, options.get("widened", False))
        self.caches: Any = []

    def fill(self, context: int, batch: int, steps: int) -> None:
        self.caches = cache.make_prompt_cache(self.model)
        rows = mx.array([prompt(self.vocab, context, i) for i in range(batch)])
        self.tokens = mx.argmax(self.model(rows, cache=self.caches)[:, -1], axis=-1)
        mx.eval([self.tokens, *(one.state for one in self.caches)])

    def decode(self, steps: int) -> float:
        tokens, before = self.tokens, None
        start = time.perf_counter()
        for _ in range(steps):
            tokens = mx.argmax(self.model(tokens[:, None], cache=self.caches)[:, -1], axis=-1)
            mx.async_eval(tokens)
            if before is not None:
                before.tolist()
            before = tokens
        tokens.tolist()
        spent = time.perf_counter() - start
        cache.trim_prompt_cache(self.caches, steps)
        return spent

    def prefill(self, tokens: int) -> float:
        start = time.perf_counter()
        self.fill(tokens, 1, 0)
        return time.perf_counter() - start

    def logits(self, ids: list[int], file: str) -> None:
        with open(file, "wb") as out:  # np.save would change a name
            np.save(out, np.array(self.model(mx.array([ids]))[0].astype(mx.float32)))


if __name__ == "__main__":
    answer(Plain)
