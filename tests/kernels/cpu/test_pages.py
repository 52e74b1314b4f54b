"""Attention over pages: what plain loops in float64 say, and a row has the same bits alone as beside any others."""

from __future__ import annotations

import random
import subprocess
import sys
from array import array
from dataclasses import dataclass, field, fields
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import DTYPES

MOST = 4096
SCALED = 64  # numbers of a row that share a scale where they are kept as bytes


@dataclass
class Sight:
    window: int = 0
    chunk: int = 0
    softcap: float = 0.0
    sinks: np.ndarray | None = None
    slopes: np.ndarray | None = None

    def arguments(self, scale: float) -> dict[str, Any]:
        vectors = {
            name: None if v is None else mx.array(v) for name, v in (("sinks", self.sinks), ("slopes", self.slopes))
        }
        return {"scale": scale, "softcap": self.softcap, "window": self.window, "chunk": self.chunk, **vectors}

    def first(self, position: int) -> int:
        if self.chunk:
            return position // self.chunk * self.chunk
        return max(0, position - self.window + 1) if self.window else 0


@dataclass
class Sequences:
    """Some sequences in pages at random places, each with new rows behind what is there already."""

    draw: random.Random
    size: int
    kv_heads: int
    share: int
    dim: int
    v_dim: int  # below 0: a value is the beginning of its key
    dtype: mx.Dtype
    lengths: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    as_bytes: bool = False
    until: list[int] = field(default_factory=list)  # of each new row, behind which key it sees none; empty: itself

    def __post_init__(self) -> None:
        numbers = np.random.default_rng(self.draw.randrange(2**32))
        self.heads, self.width = self.kv_heads * self.share, abs(self.v_dim)
        each = self.dim + max(0, self.v_dim)
        scales = sum(-(-n // SCALED) for n in (self.dim, self.v_dim))
        row = each + 2 * scales if self.as_bytes else each * self.dtype.size
        page = -(-self.kv_heads * self.size * row // 64) * 64
        self.pages = native.Pages(page + 64, MOST)
        shape = (self.size, self.kv_heads, self.dim, self.v_dim, self.dtype)
        self.place = native.PagePlace(self.pages, 64, *shape, self.as_bytes)
        assert self.place.nbytes == self.kv_heads * self.size * row
        free = list(range(MOST))
        self.draw.shuffle(free)
        whole = [length + count for length, count in zip(self.lengths, self.counts, strict=True)]
        self.tables = [array("i", [free.pop() for _ in range(-(-n // self.size))]) for n in whole]
        kept = [
            mx.array(numbers.standard_normal((n, self.kv_heads, each)).astype(np.float32)).astype(self.dtype)
            for n in whole
        ]
        self.given = [np.array(rows.astype(mx.float32)) for rows in kept]
        self.kept = [self.decoded(rows) for rows in self.given]
        self.q = numbers.standard_normal((sum(self.counts), self.heads, self.dim)).astype(np.float32)

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """As they come back from where they are kept."""
        if not self.as_bytes:
            return rows
        found = rows.copy()
        for begin, end in ((0, self.dim), (self.dim, rows.shape[-1])):
            for first in range(begin, end, SCALED):
                part = rows[..., first : min(end, first + SCALED)]
                scale = (abs(part).max(axis=-1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
                codes = np.rint(part * (np.float32(1) / np.where(scale, scale, 1))).clip(-127, 127)
                found[..., first : first + part.shape[-1]] = codes * scale
        return found

    @property
    def ends(self) -> np.ndarray:
        return np.cumsum([0, *self.counts])

    def rows(self, which: list[tuple[int, int, int]]) -> list[mx.array | None]:
        """Keys and values of (sequence, from, to), folded."""
        rows = np.concatenate([self.given[i][a:b] for i, a, b in which])[:, :, None]
        k = mx.array(rows[..., : self.dim]).astype(self.dtype)
        return [k, mx.array(rows[..., self.dim :]).astype(self.dtype) if self.v_dim > 0 else None]

    def write(self, sight: Sight) -> None:
        """What was there before."""
        old = [i for i, length in enumerate(self.lengths) if length]
        if old:
            lengths = [self.lengths[i] for i in old]
            batch = native.PagedBatch(lengths, [0] * len(old), [self.tables[i] for i in old])
            q = mx.zeros((sum(lengths), self.heads, 1, self.dim))
            mx.eval(self.look(q, self.rows([(i, 0, self.lengths[i]) for i in old]), batch, sight))

    def look(self, q: mx.array, rows: list[mx.array | None], batch: Any, sight: Sight) -> mx.array:
        return native.attend_pages(q, *rows, self.place, batch, **sight.arguments(self.dim**-0.5))

    def together(self, sight: Sight) -> np.ndarray:
        batch = native.PagedBatch(self.counts, self.lengths, self.tables, [], self.until)
        which = [(i, n, n + c) for i, (n, c) in enumerate(zip(self.lengths, self.counts, strict=True))]
        return np.array(self.look(mx.array(self.q)[:, :, None], self.rows(which), batch, sight))

    def cut(self, sight: Sight, step: int) -> np.ndarray:
        """Each sequence by itself, `step` rows at a time."""
        found = []
        for i, (length, count) in enumerate(zip(self.lengths, self.counts, strict=True)):
            for r in range(0, count, step):
                n = min(step, count - r)
                batch = native.PagedBatch([n], [length + r], [self.tables[i]])
                first = self.ends[i] + r
                rows = self.rows([(i, length + r, length + r + n)])
                found.append(np.array(self.look(mx.array(self.q[first : first + n])[:, :, None], rows, batch, sight)))
        return np.concatenate(found)

    def plain(self, sight: Sight) -> np.ndarray:
        found = np.zeros((len(self.q), self.heads, self.width))
        for i, length in enumerate(self.lengths):
            keys = self.kept[i].astype(np.float64)
            for r in range(self.counts[i]):
                at, row = length + r, self.ends[i] + r
                seen = slice(sight.first(at), self.until[row] if self.until else at + 1)
                for head in range(self.heads):
                    mine = keys[seen, head // self.share]
                    scores = mine[:, : self.dim] @ self.q[row, head].astype(np.float64) * self.dim**-0.5
                    if sight.softcap:
                        scores = sight.softcap * np.tanh(scores / sight.softcap)
                    if sight.slopes is not None:
                        scores = scores + sight.slopes[head] * np.arange(seen.start, seen.stop)
                    top = max(scores.max(), -np.inf if sight.sinks is None else sight.sinks[head])
                    weights = np.exp(scores - top)
                    below = weights.sum() + (0 if sight.sinks is None else np.exp(sight.sinks[head] - top))
                    values = mine[:, : self.width] if self.v_dim < 0 else mine[:, self.dim :]
                    found[row, head] = weights / below @ values
        return found.reshape(len(self.q), -1)


def drawn(seed: int) -> tuple[Sequences, Sight]:
    draw = random.Random(seed)
    kv_heads, share = draw.choice((1, 2, 3)), draw.choice((1, 2, 3, 9))
    dim = draw.choice((16, 20, 40, 64, 128))
    v_dim = draw.choice((dim, dim, 24, 128, -dim + 4))
    n = draw.randint(1, 4)
    sequences = Sequences(
        draw,
        size=draw.choice((1, 4, 16, 64)),
        kv_heads=kv_heads,
        share=share,
        dim=dim,
        v_dim=v_dim,
        dtype=draw.choice(list(DTYPES.values())),
        as_bytes=v_dim > 0 and draw.random() < 0.4,
        lengths=[draw.choice((0, 5, 63, 64, 200, 256, 300, 700)) for _ in range(n)],
        counts=[draw.choice((1, 1, 2, 7, 40)) for _ in range(n)],
    )
    window = draw.choice((0, 0, 1, 8, 100, 300))
    vectors = np.random.default_rng(seed).standard_normal((2, kv_heads * share)).astype(np.float32)
    return sequences, Sight(
        window=window,
        chunk=0 if window else draw.choice((0, 0, 64, 50)),
        softcap=draw.choice((0.0, 0.0, 5.0)),
        sinks=vectors[0] if draw.random() < 0.3 else None,
        slopes=-0.1 * np.abs(vectors[1]) if draw.random() < 0.3 else None,
    )


@pytest.mark.parametrize("seed", range(30))
def test_as_plain_loops_and_the_same_bits_however_it_is_cut(isa: str, seed: int) -> None:
    sequences, sight = drawn(seed)
    sequences.write(sight)
    found = sequences.together(sight)
    np.testing.assert_allclose(found, sequences.plain(sight), rtol=2e-5, atol=2e-5)
    for step in (1, 3):
        assert np.array_equal(found.view(np.uint32), sequences.cut(sight, step).view(np.uint32)), (
            f"{step} rows at a time"
        )


@pytest.mark.parametrize("seed", range(12))
def test_rows_of_a_picture_see_each_other(isa: str, seed: int) -> None:
    """Up to the end of their picture, however far they look back; beside other sequences and by themselves."""
    own, sight = drawn(100 + seed)
    own.counts[0] = 40
    own = Sequences(**{f.name: getattr(own, f.name) for f in fields(own) if f.name != "until"})
    sight.chunk = 0
    for length, count in zip(own.lengths, own.counts, strict=True):
        first = own.draw.randint(0, count - 1)
        end = own.draw.randint(first + 1, count)
        own.until += [length + (end if first <= row < end else row + 1) for row in range(count)]
    own.write(sight)
    found = own.together(sight)
    np.testing.assert_allclose(found, own.plain(sight), rtol=2e-5, atol=2e-5)
    rows = own.rows([(0, own.lengths[0], own.lengths[0] + own.counts[0])])
    alone = native.PagedBatch(own.counts[:1], own.lengths[:1], own.tables[:1], [], own.until[: own.counts[0]])
    first = np.array(own.look(mx.array(own.q[: own.counts[0]])[:, :, None], rows, alone, sight))
    assert np.array_equal(first.view(np.uint32), found[: own.counts[0]].view(np.uint32))


@pytest.mark.parametrize("broken", [mx.nan, mx.inf, -mx.inf])
def test_what_is_no_number_stays_none_as_a_byte(isa: str, broken: float) -> None:
    """A model that broke is found out by its logits: no code may make a number of what is none."""
    own = Sequences(random.Random(6), 16, 2, 2, 64, 64, mx.float32, lengths=[0], counts=[3], as_bytes=True)
    own.given[0][1, 0, 5] = broken
    found = own.together(Sight()).reshape(3, 4, 64)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:, :2]).all()
    assert np.isfinite(found[:, 2:]).all()


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_many_that_share_a_beginning_read_it_once_and_get_the_same(size: int, threads: int) -> None:
    own = Sequences(random.Random(3), size, 2, 3, 32, 32, mx.float16, lengths=[700] * 40, counts=[1] * 40)
    shared = 600 // size  # pages
    for i in range(1, 40):
        own.tables[i][:shared] = own.tables[0][:shared]
        own.given[i][: shared * size] = own.given[0][: shared * size]
        own.kept[i] = own.decoded(own.given[i])
    before = native.threads()
    native.set_threads(threads)
    try:
        own.write(Sight())
        found = own.together(Sight())
    finally:
        native.set_threads(before)
    np.testing.assert_allclose(found, own.plain(Sight()), rtol=2e-5, atol=2e-5)
    assert np.array_equal(found.view(np.uint32), own.cut(Sight(), 1).view(np.uint32))


def test_a_page_that_was_forgotten_is_never_read() -> None:
    own = Sequences(random.Random(1), 16, 1, 2, 16, 16, mx.float32, lengths=[200], counts=[3])
    sight = Sight(window=40)
    own.write(sight)
    wanted = own.together(sight)
    for number in range((200 - 40 + 1) // 16):
        own.pages.write(own.tables[0][number], b"\xff" * own.pages.page_bytes)  # not a number, wherever it is read
        own.tables[0][number] = -1
    assert np.array_equal(own.together(sight), wanted)
    with pytest.raises(ValueError, match="must be there"):
        native.PagedBatch([1], [0], [own.tables[0]]) and own.look(
            mx.zeros((1, 2, 1, 16)), own.rows([(0, 0, 1)]), native.PagedBatch([1], [0], [own.tables[0]]), sight
        )


def test_a_copied_page_is_its_own_from_then_on() -> None:
    own = Sequences(random.Random(2), 16, 2, 1, 16, 16, mx.float16, lengths=[20], counts=[4])
    own.write(Sight())
    wanted, before = own.together(Sight()), own.pages.read(own.tables[0][1])
    other = next(page for page in range(MOST) if page not in own.tables[0])
    table = array("i", [own.tables[0][0], other])
    batch = native.PagedBatch([4], [20], [table], [(own.tables[0][1], other)])
    found = own.look(mx.array(own.q)[:, :, None], own.rows([(0, 20, 24)]), batch, Sight())
    assert np.array_equal(np.array(found), wanted)
    assert own.pages.read(other) == before == own.pages.read(own.tables[0][1])


def test_what_others_wrote_is_looked_at_and_left() -> None:
    own = Sequences(random.Random(4), 16, 1, 2, 16, 16, mx.float32, lengths=[30], counts=[2])
    own.write(Sight())
    wanted = own.together(Sight())
    batch = native.PagedBatch(own.counts, own.lengths, own.tables)
    assert np.array_equal(np.array(own.look(mx.array(own.q)[:, :, None], [None, None], batch, Sight())), wanted)


def test_keys_without_values_are_read_back_whole() -> None:
    own = Sequences(random.Random(5), 16, 1, 1, 24, -8, mx.float16, lengths=[0, 40], counts=[3, 7])
    own.write(Sight())
    batch = native.PagedBatch(own.counts, own.lengths, own.tables)
    found = native.read_pages(own.rows([(0, 0, 3), (1, 40, 47)])[0], own.place, batch)
    for rows, kept in zip(found, own.kept, strict=True):
        assert np.array_equal(np.array(rows.astype(mx.float32))[0, 0], kept[:, 0])


def test_memory_of_pages_that_nobody_uses_goes_back() -> None:
    pages = native.Pages(4096, 8)
    for page in range(8):
        pages.write(page, bytes([page + 1]) * 4096)
    pages.forget(3, 5)
    assert [pages.read(page)[0] for page in range(8)] == [1, 2, 3, 0, 0, 0, 0, 0]
    for first, count in ((-1, 1), (7, 2), (0, -1)):
        with pytest.raises(ValueError, match="no such page"):
            pages.forget(first, count)
    with pytest.raises(ValueError, match="4096 bytes, not 3"):
        pages.write(0, b"abc")
    with pytest.raises(ValueError, match="no such page"):
        pages.read(8)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"q": mx.zeros((1, 2, 2, 16))}, "q must have the rows"),
        ({"q": mx.zeros((2, 2, 2, 16))}, "q must be rows"),
        ({"q": mx.zeros((1, 16))}, "q must have 4 axes"),
        ({"q": mx.zeros((1, 3, 1, 16))}, "whole number of heads"),
        ({"q": mx.zeros((1, 2, 1, 8))}, "size of the keys"),
        ({"k": mx.zeros((1, 2, 2, 16))}, "k must have the rows"),
        ({"k": mx.zeros((1, 1, 1, 16))}, "k must have the heads"),
        ({"v": mx.zeros((1, 2, 1, 8))}, "v must have the heads"),
        ({"k": mx.zeros((1, 2, 1, 16), mx.float16)}, "k must have the type"),
        ({"k": None}, "as the place keeps them"),
        ({"v": None}, "as the place keeps them"),
        ({"window": -1}, "window"),
        ({"softcap": -1.0}, "softcap"),
        ({"sinks": mx.zeros(3)}, "sinks"),
        ({"slopes": mx.zeros((1, 2))}, "slopes"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changed: dict[str, Any], told: str) -> None:
    pages = native.Pages(2 * 2 * 8 * 16 * 4, 4)
    good: dict[str, Any] = {
        "q": mx.zeros((1, 2, 1, 16)),
        "k": mx.zeros((1, 2, 1, 16)),
        "v": mx.zeros((1, 2, 1, 16)),
        "place": native.PagePlace(pages, 0, 8, 2, 16, 16, mx.float32),
        "batch": native.PagedBatch([1], [0], [array("i", [0])]),
        "scale": 1.0,
    }
    mx.eval(native.attend_pages(**good))
    with pytest.raises(ValueError, match=told):
        native.attend_pages(**{**good, **changed})


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: native.Pages(0, 1), "must have bytes"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 12, 1, 16, 16, mx.float32), "power of two"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 64, 1, 16, 16, mx.float32), "within a page"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 8, 4, 1, 16, 16, mx.float32), "within a page"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 4, 0, 16, 16, mx.float32), "must have heads"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 4, 1, 16, -17, mx.float32), "values of some size"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 4, 1, 16, 16, mx.int32), "keys"),
        (lambda: native.PagePlace(native.Pages(4096, 1), 0, 4, 1, 16, -8, mx.float32, True), "not kept as bytes"),
        (lambda: native.PagedBatch([], [], []), "one entry"),
        (lambda: native.PagedBatch([1], [0, 1], [array("i", [0])]), "one entry"),
        (lambda: native.PagedBatch([0], [0], [array("i", [0])]), "must have a row"),
        (lambda: native.PagedBatch([1], [-1], [array("i", [0])]), "from 0 on"),
        (lambda: native.PagedBatch([2], [0], [array("i", [0])], [], [1]), "one entry for each row"),
        (lambda: native.PagedBatch([2], [0], [array("i", [0])], [], [1, 3]), "among the keys"),
        (lambda: native.PagedBatch([2], [0], [array("i", [0])], [], [0, 2]), "behind it"),
        (lambda: native.PagedBatch([3], [0], [array("i", [0])], [], [3, 2, 3]), "not before"),
    ],
)
def test_places_and_batches_that_cannot_be_are_refused(made: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made()


def test_a_pass_that_goes_waits_for_nobody() -> None:
    """What nodes hold goes on MLX's threads, while others wait for MLX with the interpreter's lock."""
    found = subprocess.run([sys.executable, "-c", TWO_THREADS], timeout=120, capture_output=True, text=True, check=True)
    assert found.stdout == "done\n"


TWO_THREADS = """
import threading
from array import array
import mlx.core as mx
from mlxrun.cpu_kernels import native

going = True

def free():
    while going:
        mx.clear_cache()

other = threading.Thread(target=free)
other.start()
for _ in range(3000):
    pages = native.Pages(2 * 8 * 16 * 4, 4)
    place = native.PagePlace(pages, 0, 8, 1, 16, 16, mx.float32)
    batch = native.PagedBatch([1], [0], [array("i", [0])])
    row = mx.zeros((1, 1, 1, 16))
    y = native.attend_pages(row, row, row, place, batch, 1.0)
    del pages, place, batch
    mx.async_eval(y)
going = False
other.join()
print("done")
"""
