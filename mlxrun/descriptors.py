"""How many files this process may hold open, raised once: a terminal of macOS grants 256, and a server's clients, a
checkpoint's parts and what Metal compiles are more than that. Imports nothing of ours and never fails.
"""

from __future__ import annotations

import resource
from contextlib import suppress

WANTED = 10240  # OPEN_MAX of macOS: it takes no more, even where it names no upper limit
LOW = 512  # fewer are told as a problem


def raise_limit() -> None:
    """The soft limit, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def allowed() -> int | None:
    """As many may be open at once; None: there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
