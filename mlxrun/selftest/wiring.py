"""Part: the memory of some weights is wired, the limit is read back, and it is as before afterwards. Only with Metal.

No more is wired than the array that is made for it; nothing else runs meanwhile.
"""

from __future__ import annotations

import mlx.core as mx

from .. import gpu
from ..memory.wiring import Wiring
from .held import MIB
from .notes import Notes
from .results import NotRun

WEIGHTS = 256 * MIB


def wire_and_release(notes: Notes) -> str:
    if not gpu.metal():
        raise NotRun(f"Only Metal's memory is wired: {gpu.why_not() or 'the GPU here has no Metal.'}")
    before = limit()
    notes.number("before", before)
    weights = mx.random.normal((WEIGHTS // 4 // (16 if notes.quick else 1),))
    mx.eval(weights)
    wiring = Wiring("weights")
    notes.begin(f"wiring {weights.nbytes // MIB} MiB")
    wired = wiring.wire(weights.nbytes)
    notes.number("wired", wired.bytes)
    if wired.bytes is None:
        wiring.release()
        raise NotRun(f"Nothing was wired: {wired.why_not}.")
    size = wired.bytes
    notes.check("no_more", size <= weights.nbytes, f"{size} bytes for weights of {weights.nbytes}")
    notes.check("read_back", (found := limit()) == size, f"the limit reads {found}, {size} was set")
    mx.eval((weights * 2).sum())
    wiring.release()
    notes.check("restored", (after := limit()) == before, f"the limit reads {after}, it was {before} before")
    return f"{size / MIB:.0f} MiB wired, read back, and as before afterwards"


def limit() -> int:
    """MLX tells it only when it is set."""
    found = mx.set_wired_limit(0)
    mx.set_wired_limit(found)
    return found
