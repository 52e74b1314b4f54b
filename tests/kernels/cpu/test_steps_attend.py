"""The step that attends, against float64: norms of heads, clips, rotations, temperatures, kept and borrowed keys."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import oracle
from .test_steps import drawn, given, packed, row_norm

HEADS, KV_HEADS, DIM, WIDTH = 6, 2, 20, 30
SIZE = 16  # positions of a page
STARTS, COUNTS = (0, 9), (40, 21)  # of two sequences
Q, K, V = drawn(HEADS * DIM, WIDTH) / 5, drawn(KV_HEADS * DIM, WIDTH) / 5, drawn(KV_HEADS * DIM, WIDTH) / 5
TABLES = [(np.array([1.0, 3.0, 14.0]), 1.25), (np.array([2.0, 9.0, 100.0]), 0.75)]  # positions are divided by them


@dataclass(frozen=True)
class Way:
    """What a step is told, in the words of `native.HeadWork` and `Stack.attend`."""

    scope: str = "head"
    q_norm: bool = False
    k_norm: bool = False
    v_norm: bool = False
    after_rope: bool = False
    k_norm_size: int = 0
    clip: float = 0.0
    rope_at: int | None = None
    interleaved: bool = False
    temperature: tuple[float, ...] = ()
    apart: int = 0  # values between one head of q and the next
    latent: int = 0
    softcap: float = 0.0
    window: int = 0
    chunk: int = 0
    sinks: bool = False
    slopes: bool = False
    borrowed: bool = False  # a second step looks at the keys of the first
    tables: tuple[int, ...] = ()


WAYS = [
    Way(),
    Way(rope_at=0, tables=(0, 1)),
    Way(rope_at=5, interleaved=True, tables=(1, 1)),
    Way(q_norm=True, k_norm=True, v_norm=True, rope_at=0),
    Way(q_norm=True, k_norm=True, after_rope=True, rope_at=2),
    Way(scope="each", q_norm=True, k_norm=True, rope_at=0, clip=0.8),
    Way(scope="all", q_norm=True, k_norm=True, v_norm=True, rope_at=0, after_rope=True),
    Way(q_norm=True, k_norm=True, k_norm_size=7, rope_at=14),
    Way(clip=0.5, apart=3, rope_at=0),
    Way(temperature=(0.3, 8.0, 1.0), rope_at=0),
    Way(latent=12, k_norm=True, rope_at=14),
    Way(latent=20),
    Way(softcap=2.0, sinks=True, slopes=True),
    Way(window=7, rope_at=0),
    Way(chunk=8, borrowed=True, q_norm=True),
    Way(latent=9, borrowed=True, rope_at=0),
]
RANDOM = {name: drawn(n) for name, n in {"head": DIM, "q": HEADS * DIM, "k": KV_HEADS * DIM, "each": HEADS}.items()}


def weight_of(way: Way, part: str) -> np.ndarray:
    if part == "v" or way.scope == "head":
        return RANDOM["head"][: way.k_norm_size or DIM] if part == "k" else RANDOM["head"]
    return RANDOM[part]


def worked(way: Way, rows: np.ndarray, part: str, positions: np.ndarray, sequences: np.ndarray) -> np.ndarray:
    """Heads of one projection, (rows, heads, DIM), as they are looked at or kept."""

    def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return oracle.rms_norm(oracle.known(x), weight, 1e-3).value

    def heads_normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        if way.scope == "each" and part != "v":
            return np.stack([normed(x[:, h], weight[h * DIM : (h + 1) * DIM]) for h in range(x.shape[1])], axis=1)
        size = len(weight)
        return np.concatenate([normed(x[..., :size], weight), x[..., size:]], axis=-1)

    own = {"q": way.q_norm, "k": way.k_norm, "v": way.v_norm}[part]
    whole = way.scope == "all" and part != "v"
    if own and whole:
        rows = normed(rows, weight_of(way, part))
    x = rows.reshape(len(rows), -1, DIM).copy()
    if way.clip:
        x = np.clip(x, -way.clip, way.clip)
    late = way.after_rope and part != "v"
    if own and not whole and not late:
        x = heads_normed(x, weight_of(way, part))
    if way.rope_at is not None and part != "v":
        for r in range(len(x)):
            freqs, scale = TABLES[way.tables[sequences[r]] if way.tables else 0]
            angles, turned = positions[r] / freqs.astype(np.float32), x[r, :, way.rope_at :][:, : 2 * len(freqs)].copy()
            a, b = (turned[:, ::2], turned[:, 1::2]) if way.interleaved else np.split(turned, 2, axis=1)
            new = scale * (a * np.cos(angles) - b * np.sin(angles)), scale * (b * np.cos(angles) + a * np.sin(angles))
            both = np.stack(new, axis=-1).reshape(len(a), -1) if way.interleaved else np.concatenate(new, axis=1)
            x[r, :, way.rope_at : way.rope_at + 2 * len(freqs)] = both
    if own and not whole and late:
        x = heads_normed(x, weight_of(way, part))
    if part == "q" and way.temperature:
        beta, floor, shift = way.temperature
        x *= (1 + beta * np.log1p(np.floor((positions + shift) / floor)))[:, None, None]
    return x


def looked_up(way: Way, q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int) -> np.ndarray:
    """One row over all keys of its sequence up to its own."""
    first = position // way.chunk * way.chunk if way.chunk else max(0, position - way.window + 1) if way.window else 0
    seen, out = slice(first, position + 1), []
    for h in range(HEADS):
        scores = k[seen, h // (HEADS // KV_HEADS)] @ q[h] * 0.3
        if way.softcap:
            scores = way.softcap * np.tanh(scores / way.softcap)
        if way.slopes:
            scores = scores - RANDOM["each"][h] ** 2 * np.arange(position + 1)[seen]
        weights = np.exp(scores)
        below = weights.sum() + (np.exp(RANDOM["each"][h]) if way.sinks else 0)
        out.append(weights / below @ v[seen, h // (HEADS // KV_HEADS)])
    return np.concatenate(out)


def step_of(way: Way) -> Any:
    norms = {
        f"{part}_norm": row_norm(weight_of(way, part))
        for part in "qkv"
        if {"q": way.q_norm, "k": way.k_norm, "v": way.v_norm}[part]
    }
    stack = native.Stack(WIDTH, 0, "to")
    rope = -1
    if way.rope_at is not None:
        stack.rope([(mx.ones(2), 1.0)], interleaved=False)  # another's
        rope = stack.rope([(given(freqs), scale) for freqs, scale in TABLES], interleaved=way.interleaved)
    spread = np.zeros((HEADS, DIM + way.apart, WIDTH))
    spread[:, :DIM] = Q.reshape(HEADS, DIM, WIDTH)
    weights = [packed(spread.reshape(-1, WIDTH)), packed(K), packed(V)]
    heads = native.HeadWork(
        DIM,
        step=DIM + way.apart,
        **norms,
        scope=way.scope,
        after_rope=way.after_rope,
        k_norm_size=way.k_norm_size,
        clip=way.clip,
        rope=rope,
        rope_at=way.rope_at or 0,
        temperature=list(way.temperature),
    )
    rule = {
        "scale": 0.3,
        "softcap": way.softcap,
        "window": way.window,
        "chunk": way.chunk,
        "sinks": given(RANDOM["each"]) if way.sinks else None,
        "slopes": given(-(RANDOM["each"] ** 2)) if way.slopes else None,
        "latent": way.latent,
    }
    for kept in (True, False) if way.borrowed else (True,):
        stack.project("x", weights, [None] * 3, ["q", "k", "v"])
        own = ("k", None if way.latent else "v") if kept else (None, None)
        stack.attend("q", *own, heads, **{**rule, "latent": way.latent}, to="to")
    return stack


def pass_of(way: Way, stack: Any, x: np.ndarray, place: Any, batch: Any) -> np.ndarray:
    attending = 2 if way.borrowed else 1
    tables = [[], list(way.tables)] if way.rope_at is not None else []
    return np.array(stack(given(x), None, [place] * attending, [0] * attending, [batch], tables, 0)[0])


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
@pytest.mark.parametrize("times", [1, 3], ids=["few", "many"])
def test_as_plain_loops(way: Way, times: int) -> None:
    """The first rows of two sequences, then the others; of so many that all cores help, where `times` says so."""
    counts = tuple(count * times for count in COUNTS)
    lengths = [start + count for start, count in zip(STARTS, counts, strict=True)]
    texts = [drawn(length, WIDTH) for length in lengths]
    value = -way.latent if way.latent else DIM
    needed = [-(-length // SIZE) for length in lengths]
    pages = native.Pages(2 * KV_HEADS * SIZE * DIM * 4 + 64, sum(needed) + 1)
    place = native.PagePlace(pages, 64, SIZE, KV_HEADS, DIM, value, mx.float32)
    numbers = np.random.default_rng(1).permutation(sum(needed) + 1)
    own = [array("i", map(int, numbers[: needed[0]])), array("i", map(int, numbers[needed[0] : sum(needed)]))]
    stack = step_of(way)
    pass_of(
        Way(**{**vars(way), "tables": way.tables[1:]}),
        stack,
        texts[1][: STARTS[1]],
        place,
        native.PagedBatch([STARTS[1]], [0], [own[1]]),
    )
    x = np.concatenate([text[start:] for text, start in zip(texts, STARTS, strict=True)])
    found = pass_of(way, stack, x, place, native.PagedBatch(counts, STARTS, own))
    wanted = []
    for i, text in enumerate(texts):
        positions, which = np.arange(len(text)), np.full(len(text), i)
        q, k, v = (worked(way, text @ w.T, part, positions, which) for w, part in ((Q, "q"), (K, "k"), (V, "v")))
        values = k[..., : way.latent] if way.latent else v
        wanted += [looked_up(way, q[r], k, values, r) for r in range(STARTS[i], len(text))]
    np.testing.assert_allclose(found, np.array(wanted), rtol=2e-4, atol=2e-5)
