"""How fast one could decode if nothing but reading took time: bytes that a step must read, and how fast they come."""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

KEY_BYTES = 2  # of a key or a value: both engines keep them in float16


@dataclass(frozen=True)
class Reads:
    """Of one model file, in bytes."""

    always: int  # norms, projections, the head; an embedding that is not the head gives single rows, which do not count
    experts: int  # all of them
    share: float  # of the experts, what one token chooses
    a_position: int  # keys and values of one position, all layers

    @property
    def weights(self) -> int:
        return self.always + self.experts

    def step(self, batch: int, positions: float) -> float:
        """One token for each of `batch` sequences. Experts: as many as that many independent choices meet."""
        met = 1 - (1 - self.share) ** batch
        return self.always + self.experts * met + batch * positions * self.a_position


def reads_of(file: Path) -> Reads:
    reader = gguf.GGUFReader(file)
    arch = reader.fields["general.architecture"].contents()

    def number(key: str, default: int = 0) -> int:
        field = reader.fields.get(f"{arch}.{key}")
        return default if field is None else int(field.contents())

    head = number("attention.key_length", number("embedding_length") // number("attention.head_count"))
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    untied = "output.weight" in sizes
    experts = sum(size for name, size in sizes.items() if "_exps" in name)
    table = sizes["token_embd.weight"] if untied else 0
    return Reads(
        always=sum(sizes.values()) - experts - table,
        experts=experts,
        share=number("expert_used_count") / max(1, number("expert_count")),
        a_position=2 * number("attention.head_count_kv") * head * number("block_count") * KEY_BYTES,
    )


def read_bandwidth(threads: int) -> float:
    """Bytes a second, the best of several passes: libc's memchr looks for a byte that is not there."""
    libc = ctypes.CDLL(None)
    libc.memchr.argtypes, libc.memchr.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], ctypes.c_void_p
    blocks = [np.ones(1 << 28, np.uint8) for _ in range(threads)]  # far more than any cache holds
    best = 0.0
    for _ in range(7):
        looks = [threading.Thread(target=libc.memchr, args=(b.ctypes.data, 7, b.nbytes)) for b in blocks]
        start = time.perf_counter()
        for look in looks:
            look.start()
        for look in looks:
            look.join()
        best = max(best, sum(b.nbytes for b in blocks) / (time.perf_counter() - start))
    return best
