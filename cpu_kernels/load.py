"""Finds the native library, checks that it fits and computes right, and says why where it does not.

Happens once, at import. Everything here must work without the library.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx

from . import sources

HERE = Path(__file__).resolve().parent
MLX: str = mx.__version__  # type: ignore[attr-defined]  # its stub forgets it


@dataclass(frozen=True, slots=True)
class Status:
    """Whether the native kernels are in use, and if not, why."""

    available: bool
    reason: str | None
    isa: str | None = None  # the instruction set whose kernels run
    integer: bool = False  # it has integer dot products, so `fast` differs from `exact`
    threads: int = 0
    built_for_mlx: str | None = None
    precision: str | None = None


def record() -> dict[str, Any]:
    """What the build left behind; empty where it never ran."""
    try:
        found = json.loads((HERE / "build.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def load() -> tuple[ModuleType | None, str | None]:
    """The library, or the reason why there is none."""
    built = record()
    if built.get("mlx", MLX) != MLX:
        return (
            None,
            f"they were built for mlx {built['mlx']}, and mlx {MLX} is installed; install mlxrun again",
        )
    if "mlx" in built and built.get("sources") != (here := sources.digest()) and here is not None:
        return None, "they were built from other sources than those that are here; install mlxrun again"
    try:
        library = importlib.import_module(f"{__package__}._native")
    except ModuleNotFoundError:
        if built.get("built") is False:
            return None, f"they were not built: {built.get('reason')}"
        return None, "they were not built; install mlxrun again where a C++ compiler is found"
    except ImportError as error:
        return None, f"they cannot be loaded ({error}); install mlxrun again"
    if library.mlx_version != MLX:
        built_for = library.mlx_version
        return None, f"they were built for mlx {built_for}, and mlx {MLX} is installed; install mlxrun again"
    if reason := self_test(library):
        return None, reason
    library.release_scratch()
    return library, None


def self_test(library: Any) -> str | None:
    """One small product against MLX in float32, on the path that this processor takes."""
    with mx.stream(mx.cpu):
        try:
            x = mx.sin(mx.arange(3 * 128, dtype=mx.float32)).reshape(3, 128)
            w = mx.cos(mx.arange(40 * 128, dtype=mx.float32) * 0.37).reshape(40, 128)
            codes, scales, biases = mx.quantize(w, 32, 4)
            wanted = mx.matmul(x, mx.dequantize(codes, scales, biases, 32, 4).T)
            mx.eval(wanted, codes)
        except RuntimeError as error:  # on a Mac without a Metal device MLX has no memory for arrays
            return f"MLX computes nothing here to test them against ({str(error).splitlines()[0].rstrip('.')})"
        try:
            packed = library.pack_quantized(codes, scales, biases, "affine", 4, 32)
            wrong = float(mx.abs(library.matmul(x, packed) - wanted).max())
        except (TypeError, ValueError, RuntimeError) as error:
            return f"they failed their self-test ({str(error).splitlines()[0]}); install mlxrun again"
    return None if wrong < 0.01 else f"they failed their self-test (off by {wrong:.3g})"


def status_of(library: Any, reason: str | None) -> Status:
    if library is None:
        return Status(False, reason)
    return Status(
        True,
        None,
        library.isa(),
        library.integer(),
        library.threads(),
        library.mlx_version,
        library.precision(),
    )
