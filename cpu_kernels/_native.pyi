"""What the native library offers. Every array function returns a lazy MLX array on the CPU stream."""

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
def isa() -> str: ...
def isas() -> list[str]: ...
def choose_isa(name: str) -> bool: ...
def integer() -> bool: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
def precision() -> str: ...
def set_precision(name: Precision) -> None: ...
