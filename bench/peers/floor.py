"""How fast one could decode if nothing but reading took time: bytes that a step must read, and how fast they come."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

KEY_BYTES = 2  # of a key or a value: both engines keep them in float16
PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}  # the last layer of so many sees everything, where a file is silent


@dataclass(frozen=True)
class Looked:
    """What one layer keeps of a position, in bytes, and how far back it looks."""

    bytes: int
    window: float = math.inf


@dataclass(frozen=True)
class Reads:
    """Of one model file, in bytes."""

    always: int  # norms, projections, the head; an embedding that is not the head gives single rows, which do not count
    experts: int  # all of them
    share: float  # of the experts, what one token chooses
    layers: tuple[Looked, ...]  # that look at keys

    @property
    def weights(self) -> int:
        return self.always + self.experts

    def keys(self, positions: float) -> int:
        return int(sum(layer.bytes * min(positions, layer.window) for layer in self.layers))

    def step(self, batch: int, positions: float) -> float:
        """One token for each of `batch` sequences. Experts: as many as that many independent choices meet."""
        met = 1 - (1 - self.share) ** batch
        return self.always + self.experts * met + batch * self.keys(positions)


def reads_of(file: Path) -> Reads:
    reader = gguf.GGUFReader(file)
    arch = reader.fields["general.architecture"].contents()

    def said(key: str, default: Any = 0) -> Any:
        field = reader.fields.get(f"{arch}.{key}")
        return default if field is None else field.contents()

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    experts = sum(size for name, size in sizes.items() if "_exps" in name)
    rows = ["per_layer_token_embd.weight", *(["token_embd.weight"] if "output.weight" in sizes else [])]
    return Reads(
        always=sum(sizes.values()) - experts - sum(sizes.get(name, 0) for name in rows),
        experts=experts,
        share=said("expert_used_count") / max(1, said("expert_count")),
        layers=looked(arch, said),
    )


def looked(arch: str, said: Callable[..., Any]) -> tuple[Looked, ...]:
    """Layers that look at keys, in order, their own or others'; those that keep a state do not."""
    count, interval = said("block_count"), said("full_attention_interval") if said("ssm.state_size") else 0
    heads = said("attention.head_count_kv")
    each = (
        heads
        if isinstance(heads, list)
        else [0 if interval and i % interval < interval - 1 else heads for i in range(count)]
    )
    wide = said("attention.key_length") or said("embedding_length") // said("attention.head_count")
    narrow, window = said("attention.key_length_swa", wide), said("attention.sliding_window") or math.inf
    period = PERIODS.get(arch)
    slides = said("attention.sliding_window_pattern", None) or [
        window < math.inf and (period is None or i % period < period - 1) for i in range(count)
    ]
    if said("attention.kv_lora_rank"):
        return (Looked(wide * KEY_BYTES),) * count  # of which the values are a part
    return tuple(
        Looked(2 * n * (narrow if near else wide) * KEY_BYTES, window if near else math.inf)
        for n, near in zip(each, slides, strict=True)
        if n
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
