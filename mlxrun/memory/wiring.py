"""What of a Mac's memory is kept from being paged out for the GPU: nothing, the weights, or all that is recommended.

Wiring everything is what made whole machines panic (mlx issue 3186), so the usual policy wires the weights and leaves
what grows alone; `off` makes no call at all. Where there is no Metal nothing is ever called. Never run on a Mac.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import mlx.core as mx

from .. import gpu

Policy = Literal["off", "weights", "max"]
POLICIES: tuple[str, ...] = get_args(Policy)
UNWIRED_SHARE = 0.9  # of what Metal recommends, the most that the weights may take


class Wiring:
    def __init__(self, policy: str = "weights", mlx: Any = mx) -> None:
        if policy not in POLICIES:
            raise ValueError(f"wiring must be {', '.join(POLICIES)}, not {policy!r}")
        self.policy, self._mlx, self._before = policy, mlx, None

    def wire(self, weights: int) -> int | None:
        """Bytes that are wired from now on; None: nothing was touched."""
        most = gpu.count("max_recommended_working_set_size") if gpu.metal() else None
        if self.policy == "off" or most is None:
            return None
        wanted = most if self.policy == "max" else min(weights, int(UNWIRED_SHARE * most))
        self._before = self._mlx.set_wired_limit(wanted)
        return wanted

    def release(self) -> None:
        """As it was before, once what runs has ended."""
        if self._before is not None:
            self._mlx.synchronize()
            self._mlx.set_wired_limit(self._before)
            self._before = None
