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

class Stack:
    def __init__(self) -> None: ...
    def add(
        self,
        *,
        heads: Sequence[Packed],
        biases: Sequence[mx.array | None],
        dim: int,
        norms: HeadNorms,
        scale: float,
        window: int,
        chunk: int,
        turned: bool,
        out: Packed,
        out_bias: mx.array | None = None,
        sinks: mx.array | None = None,
        gate: Packed | None,
        up: Packed,
        down: Packed,
        act: str,
        norm: mx.array,
        eps: float,
    ) -> None: ...
    def __call__(
        self,
        x: mx.array,
        rotation: Rotation,
        places: Sequence[PagePlace],
        groups: Sequence[int],
        batches: Sequence[PagedBatch],
        precision: int = -1,
    ) -> mx.array: ...

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
