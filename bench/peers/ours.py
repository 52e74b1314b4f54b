"""mlxrun the way its engine runs it: started ahead, the next token drawn by argmax inside the graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from asked import answer, prompt

from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device

CHUNK = 512  # rows of a prompt in a pass


class Ours:
    def __init__(self, file: str, options: dict[str, Any]) -> None:
        ready, device = options.get("ready"), this_device(options.get("precision") or None)
        dtype = mx.float32 if options.get("widened") else None
        how = LoadOptions(ready=Path(ready) if ready else None, device=device)
        self.model = load_model(file, dtype=dtype, options=how)
        self.memories: list[Any] = []
        self.chunk = options.get("chunk", CHUNK)

    def read(self, memory: Any, ids: list[int]) -> mx.array:
        """The likeliest token after the prompt."""
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            hidden = self.model(mx.array(part, mx.int32), [(memory, len(part))])
            if start + len(part) < len(ids):
                mx.eval(memory.arrays())
        token = mx.argmax(self.model.logits(hidden[-1:]), axis=-1)
        mx.eval([token, *memory.arrays()])
        return token

    def fill(self, context: int, batch: int, steps: int) -> None:
        self.memories = [self.model.new_sequence(context + steps) for _ in range(batch)]
        firsts = [self.read(m, prompt(self.model.vocab, context, i)) for i, m in enumerate(self.memories)]
        self.tokens = mx.concatenate(firsts)
        self.decode(2)

    def decode(self, steps: int) -> float:
        length, tokens, told = self.memories[0].length, self.tokens, []
        before: mx.array | None = None
        start = time.perf_counter()
        for _ in range(steps):
            hidden = self.model(tokens, [(memory, 1) for memory in self.memories])
            tokens = mx.argmax(self.model.logits(hidden), axis=-1)
            mx.async_eval([tokens, *(array for memory in self.memories for array in memory.arrays())])
            if before is not None:
                told.append(before.tolist())
            before = tokens
        told.append(tokens.tolist())
        spent = time.perf_counter() - start
        for memory in self.memories:
            memory.rewind(length)
        return spent

    def prefill(self, tokens: int) -> float:
        ids = prompt(self.model.vocab, tokens)
        memory = self.model.new_sequence(tokens)
        start = time.perf_counter()
        self.read(memory, ids)
        return time.perf_counter() - start

    def logits(self, ids: list[int], file: str) -> None:
        memory, found = self.model.new_sequence(len(ids)), []
        for start in range(0, len(ids), self.chunk):
            part = ids[start : start + self.chunk]
            hidden = self.model(mx.array(part, mx.int32), [(memory, len(part))])
            found.append(np.array(self.model.logits(hidden).astype(mx.float32)))
        with open(file, "wb") as out:  # np.save would change a name
            np.save(out, np.concatenate(found))


if __name__ == "__main__":
    answer(Ours)
