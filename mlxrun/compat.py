"""Where another package's module does what we cannot live with and offers no setting against it, its names are changed
here and nowhere else, for as long as a `with` block. Knows no model.

- `quiet_import`: mlx_lm.utils calls resource.setrlimit when it is imported, which lowers this process's limit of open
  files; an ordinary user cannot raise it again, so a server would run out of sockets.
- `bars_of`: mlx_lm.quant.* draw their progress with a `tqdm` that they imported; there is no argument for another one.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def quiet_import() -> Iterator[None]:
    """Around the import of anything of mlx-lm."""
    before = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = before


@contextmanager
def bars_of(module: ModuleType, bar: Callable[..., Any]) -> Iterator[None]:
    """Progress that this module of mlx-lm would draw goes to `bar`, called as tqdm is."""
    before = module.tqdm
    module.tqdm = bar  # type: ignore[attr-defined]  # a name that the module imported
    try:
        yield
    finally:
        module.tqdm = before  # type: ignore[attr-defined]  # as above
