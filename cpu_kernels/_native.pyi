"""What the native library offers. Every array function returns a lazy MLX array on the CPU stream."""

from array import array
from collections.abc import Sequence
from typing import Literal

import mlx.core as mx

Precision = Literal["exact", "fast"]  # of a call: 0, 1, or -1 for the setting

mlx_version: str

class Packed:
    """A weight as the kernels want it. It holds its own copy: the arrays it was made from may go."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def mode(self) -> str: ...  # affine, mxfp4, mxfp8, nvfp4, plain
    @property
    def bits(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def symmetric(self) -> bool: ...  # no biases are kept: one code stands for 0
    @property
    def nbytes(self) -> int: ...
    @property
    def data(self) -> mx.array: ...

def pack_quantized(
    codes: mx.array, scales: mx.array, biases: mx.array | None, mode: str, bits: int, group: int
) -> Packed: ...
def pack_plain(weight: mx.array) -> Packed: ...
def matmul(
    x: mx.array, w: Packed, bias: mx.array | None = None, residual: mx.array | None = None, precision: int = -1
) -> mx.array: ...
def project(
    x: mx.array,
    weights: Sequence[Packed],
    biases: Sequence[mx.array | None] = (),
    norm: mx.array | None = None,
    eps: float = 0.0,
    residual: mx.array | None = None,
    precision: int = -1,
) -> list[mx.array]: ...
def feed_forward(
    x: mx.array,
    gate: Packed | None,
    up: Packed,
    down: Packed,
    act: str,
    norm: mx.array | None = None,
    eps: float = 0.0,
    residual: bool = False,
    precision: int = -1,
) -> mx.array: ...
def table_rows(ids: mx.array, table: Packed, dtype: mx.Dtype) -> mx.array: ...
def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    mask: mx.array | None = None,
    causal: bool = False,
    window: int = 0,
    sinks: mx.array | None = None,
    softcap: float = 0.0,
    keys: int = -1,
) -> mx.array: ...
def attend_segments(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    counts: Sequence[int],
    scale: float,
    softcap: float = 0.0,
    window: int = -1,
    sinks: mx.array | None = None,
    apart: mx.array | None = None,
    seen: Sequence[int] = (),
) -> mx.array: ...

class Pages:
    """Memory for pages: addresses that stay, bytes where something was written."""

    def __init__(self, page_bytes: int, most: int) -> None: ...
    @property
    def page_bytes(self) -> int: ...
    @property
    def most(self) -> int: ...
    def forget(self, first: int, count: int) -> None: ...
    def read(self, page: int) -> bytes: ...
    def write(self, page: int, bytes: bytes) -> None: ...

class PagePlace:
    """Where one layer's keys lie in each page; v_dim < 0: a value is the first -v_dim numbers of its key."""

    def __init__(
        self,
        pages: Pages,
        offset: int,
        size: int,
        heads: int,
        dim: int,
        v_dim: int,
        dtype: mx.Dtype,
        as_bytes: bool = False,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...

class PagedBatch:
    """The sequences of a pass; tables are int32 buffers, and are copied."""

    def __init__(
        self,
        counts: Sequence[int],
        offsets: Sequence[int],
        tables: Sequence[array[int]],
        copies: Sequence[tuple[int, int]] = ...,
        ends: Sequence[int] = ...,
    ) -> None: ...

def attend_pages(
    q: mx.array,
    k: mx.array | None,
    v: mx.array | None,
    place: PagePlace,
    batch: PagedBatch,
    scale: float,
    softcap: float = 0.0,
    window: int = 0,
    chunk: int = 0,
    sinks: mx.array | None = None,
    slopes: mx.array | None = None,
) -> mx.array: ...
def read_pages(k: mx.array, place: PagePlace, batch: PagedBatch) -> list[mx.array]: ...
def experts(
    x: mx.array,
    ids: mx.array,
    weights: mx.array,
    gate: Packed | None,
    up: Packed,
    down: Packed,
    act: str,
    gate_bias: mx.array | None = None,
    up_bias: mx.array | None = None,
    down_bias: mx.array | None = None,
    residual: mx.array | None = None,
    precision: int = -1,
) -> mx.array: ...
def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array: ...
def layer_norm(x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float) -> mx.array: ...

class Rotation:
    def __init__(
        self, freqs: mx.array | None, positions: mx.array | None, interleaved: bool = False, scale: float = 1.0
    ) -> None: ...

class HeadNorms:
    def __init__(
        self,
        input: mx.array | None = None,
        eps: float = 0.0,
        q: mx.array | None = None,
        k: mx.array | None = None,
        head_eps: float = 0.0,
    ) -> None: ...

def heads_of(
    x: mx.array,
    weights: Sequence[Packed],
    biases: Sequence[mx.array | None],
    dim: int,
    norms: HeadNorms,
    rotation: Rotation,
    one_sequence: bool,
    kept: mx.Dtype,
    precision: int = -1,
) -> list[mx.array]: ...

class RowNorm:
    """Of rows: RMS, or (centred) layer norm. Weights may be longer than a row where rows have their own."""

    def __init__(self, weight: mx.array | None, bias: mx.array | None, eps: float, centred: bool = False) -> None: ...

class Network:
    """The matrices of a network, or stacks of them, one for each expert."""

    def __init__(
        self,
        gate: Packed | None,
        up: Packed,
        down: Packed,
        act: str,
        gate_bias: mx.array | None = None,
        up_bias: mx.array | None = None,
        down_bias: mx.array | None = None,
    ) -> None: ...

class HeadWork:
    """What becomes of heads before they are looked at or kept. `step`: from one head of q to the next."""

    def __init__(
        self,
        dim: int,
        *,
        step: int,
        q_norm: RowNorm | None = None,
        k_norm: RowNorm | None = None,
        v_norm: RowNorm | None = None,
        scope: str = "head",
        after_rope: bool = False,
        k_norm_size: int = 0,
        clip: float = 0.0,
        rope: int = -1,
        rope_at: int = 0,
        temperature: Sequence[float] = ...,
    ) -> None: ...

class Routing:
    def __init__(
        self,
        top_k: int,
        *,
        score: str,
        renorm: bool = False,
        renorm_eps: float = 1e-20,
        scale: float = 1.0,
        groups: int = 1,
        top_groups: int = 1,
        jitter: float = 0.0,
        select_bias: mx.array | None = None,
        expert_scale: mx.array | None = None,
    ) -> None: ...

class LowRank:
    def __init__(self, a: Packed, b: Packed, scale: float, gain: mx.array | None = None) -> None: ...

class StackAdapter: ...

class Stack:
    """Steps over named rows: "x" goes in, "extra" comes in beside it, `out` comes out. See stack.h."""

    def __init__(self, width: int, extra: int = 0, out: str = "x") -> None: ...
    def rope(self, tables: Sequence[tuple[mx.array, float]], interleaved: bool, axes: Sequence[int] = ()) -> int: ...
    def combine(
        self,
        source: str,
        to: str,
        norm: RowNorm | None = None,
        onto: str | None = None,
        factor: float = 1.0,
        scale: mx.array | None = None,
    ) -> None: ...
    def project(
        self,
        source: str,
        weights: Sequence[Packed],
        biases: Sequence[mx.array | None],
        to: Sequence[str],
        onto: str | None = None,
        norm: RowNorm | None = None,
    ) -> None: ...
    def adapt(
        self,
        source: str,
        products: Sequence[str],
        biases: Sequence[mx.array | None],
        norm: RowNorm | None = None,
    ) -> None: ...
    def adapter(self, slots: Sequence[LowRank | None]) -> StackAdapter: ...
    def activate(
        self, gate: str, act: str, up: str | None, up_at: int, to: str, at: int = 0, size: int = 0
    ) -> None: ...
    def normalise(self, rows: str, at: int, size: int, parts: int, norm: RowNorm) -> None: ...
    def convolve(
        self, sources: Sequence[str], at: int, weight: mx.array, bias: mx.array | None, silu: bool, to: str
    ) -> None: ...
    def pace(
        self,
        source: str,
        at: int,
        by: str,
        bias: mx.array,
        rate: mx.array | None,
        low: float,
        high: float,
        to: str,
    ) -> None: ...
    def scan_selective(self, u: str, dt: str, bc: str, at: int, a: mx.array, skip: mx.array, to: str) -> None: ...
    def scan_space(
        self, mixed: str, dt: str, dim: int, groups: int, rate: mx.array, skip: mx.array, to: str
    ) -> None: ...
    def scan_delta(self, mixed: str, decay: str, beta: str, k_heads: int, k_dim: int, to: str) -> None: ...
    def scan_linear(
        self,
        x: str,
        into: str,
        decay: str,
        into_bias: mx.array,
        decay_bias: mx.array,
        rate: mx.array,
        to: str,
    ) -> None: ...
    def gate(self, rows: str, gates: str, dim: int, at: int, step: int, by: str) -> None: ...
    def feed(
        self, source: str, network: Network, to: str, onto: str | None = None, norm: RowNorm | None = None
    ) -> None: ...
    def route(self, logits: str, routing: Routing, to: str) -> None: ...
    def mix(
        self,
        source: str,
        logits: str,
        routing: Routing,
        scales_input: bool,
        network: Network,
        to: str,
        onto: str | None = None,
    ) -> None: ...
    def attend(
        self,
        q: str,
        k: str | None,
        v: str | None,
        heads: HeadWork,
        scale: float,
        softcap: float,
        window: int,
        chunk: int,
        sinks: mx.array | None,
        slopes: mx.array | None,
        latent: int,
        to: str,
    ) -> None: ...
    def per_head(self, source: str, w: Packed, carried: int, to: str) -> None: ...
    def __call__(
        self,
        x: mx.array,
        extra: mx.array | None,
        places: Sequence[PagePlace],
        groups: Sequence[int],
        batches: Sequence[PagedBatch],
        tables: Sequence[Sequence[int]],
        precision: int = -1,
        counts: Sequence[int] = (),
        before: Sequence[Sequence[mx.array | None]] = (),
        adapted: Sequence[tuple[int, int, StackAdapter]] = (),
        turns: Sequence[Sequence[int]] = (),
    ) -> list[mx.array]: ...

def sample(
    logits: mx.array,
    wishes: mx.array,
    places: mx.array,
    keys: mx.array,
    tokens: mx.array,
    bias_ids: mx.array,
    bias: mx.array,
    breakers: mx.array,
    surprise: mx.array,
    mask: mx.array | None = None,
    best: int = -1,
) -> list[mx.array]: ...
def release_scratch() -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def choose_isa(name: str) -> bool: ...
def integer() -> bool: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
def precision() -> str: ...
def set_precision(name: Precision) -> None: ...
def packed_layout(weight: Packed) -> list[int]: ...  # all of it but data, mode and bits

class MappedFile:
    """A file's pages as arrays, shared with whoever maps the same file. ValueError names the argument at fault."""

    def __init__(self, path: str, size: int) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def lost(self) -> bool: ...  # a page could not be read: it shows zeros now, and no result may be believed
    @property
    def unchanged(self) -> bool: ...  # the file is still as long and as old as when it was mapped, and not lost
    @property
    def resident(self) -> int: ...  # bytes of it that are in memory
    def array(self, start: int, shape: Sequence[int], dtype: mx.Dtype) -> mx.array: ...
    def packed(self, start: int, mode: str, bits: int, layout: Sequence[int]) -> Packed: ...
    def will_need(self, start: int, bytes: int) -> None: ...
    def need_not_stay(self, start: int, bytes: int) -> None: ...

class Guard:
    """Of pages that somebody else mapped: one that cannot be read is marked here instead of ending the process."""

    def __init__(self, start: int, bytes: int, path: str) -> None: ...
    @property
    def lost(self) -> bool: ...

def lost_count() -> int: ...  # mapped files of which a page could not be read, so far in this process
def lost_files() -> list[str]: ...  # which they are
