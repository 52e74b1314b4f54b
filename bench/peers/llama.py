"""llama.cpp by its C interface: batches of forced tokens, so that neither sampling nor Python weighs on it."""

from __future__ import annotations

import time
from typing import Any

import llama_cpp as c
import numpy as np
from asked import answer, prompt

UBATCH = 512  # its default


@c.llama_log_callback
def quiet(level: int, text: bytes, data: Any) -> None:
    """Only what we ask for."""


class Llama:
    def __init__(self, file: str, options: dict[str, Any]) -> None:
        c.llama_log_set(quiet, None)
        c.llama_backend_init()
        params = c.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = c.llama_model_load_from_file(file.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {file}.")
        self.threads, self.full_keys = options["threads"], options.get("full_keys", False)
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.context: Any = None
        self.lengths: list[int] = []

    def open(self, tokens: int, batch: int) -> None:
        if self.context is not None:
            c.llama_free(self.context)
        params = c.llama_context_default_params()
        params.n_ctx = -(-tokens // 256) * 256 * batch
        params.n_batch, params.n_ubatch, params.n_seq_max = max(UBATCH, batch), UBATCH, batch
        params.n_threads = params.n_threads_batch = self.threads
        params.no_perf = True
        if self.full_keys:
            params.type_k = params.type_v = c.GGML_TYPE_F32
        self.context = c.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context.")

    def run(self, rows: list[tuple[int, int, int]], wanted: set[int]) -> None:
        """(token, position, sequence) each; `wanted`: rows whose logits are computed."""
        batch = c.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        if c.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp cannot run this batch.")
        c.llama_synchronize(self.context)
        c.llama_batch_free(batch)

    def read(self, ids: list[int], sequence: int) -> None:
        for start in range(0, len(ids), UBATCH):
            part = ids[start : start + UBATCH]
            rows = [(token, start + i, sequence) for i, token in enumerate(part)]
            self.run(rows, {len(part) - 1} if start + len(part) == len(ids) else set())

    def fill(self, context: int, batch: int, steps: int) -> None:
        self.open(context + steps, batch)
        self.lengths = [context] * batch
        for sequence in range(batch):
            self.read(prompt(self.vocab, context, sequence), sequence)
        self.decode(2)

    def decode(self, steps: int) -> float:
        length, batch = self.lengths[0], len(self.lengths)
        tokens = prompt(self.vocab, steps * batch, -1)
        start = time.perf_counter()
        for step in range(steps):
            rows = [(tokens[step * batch + i], length + step, i) for i in range(batch)]
            self.run(rows, set(range(batch)))
        spent = time.perf_counter() - start
        memory = c.llama_get_memory(self.context)
        for sequence in range(batch):
            if not c.llama_memory_seq_rm(memory, sequence, length, -1):
                self.lengths[sequence] += steps
        return spent

    def prefill(self, tokens: int) -> float:
        ids = prompt(self.vocab, tokens)
        self.open(tokens, 1)
        self.read(ids[:2], 0)
        c.llama_memory_clear(c.llama_get_memory(self.context), True)
        start = time.perf_counter()
        self.read(ids, 0)
        return time.perf_counter() - start

    def logits(self, ids: list[int], file: str) -> None:
        self.open(len(ids), 1)
        found = []
        for start in range(0, len(ids), UBATCH):
            part = ids[start : start + UBATCH]
            self.run([(token, start + i, 0) for i, token in enumerate(part)], set(range(len(part))))
            rows = c.llama_get_logits(self.context)
            found.append(np.ctypeslib.as_array(rows, (len(part), self.vocab)).copy())
        with open(file, "wb") as out:  # np.save would change a name
            np.save(out, np.concatenate(found))


if __name__ == "__main__":
    answer(Llama)
