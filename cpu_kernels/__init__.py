"""C++ primitives for MLX on a CPU: the fast forms of `mlxrun.ops`, which alone decides when to use them.

`native` is the library where `available`, and None elsewhere; `status()` says which kernels run, or
why there are none. Its functions check their arguments and raise ValueError naming the one at fault;
they return lazy MLX arrays. `_native.pyi` lists them. This package knows nothing of models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .load import Status, load, status_of

_library, _reason = load()
available = _library is not None

if TYPE_CHECKING:
    from . import _native as native
    from ._native import Packed
elif available:
    native, Packed = _library, _library.Packed
else:
    native = None

    class Packed:
        """Stands for the library's weights where there is no library: nothing is one."""


def status() -> Status:
    return status_of(_library, _reason)


__all__ = ["Packed", "Status", "available", "native", "status"]
