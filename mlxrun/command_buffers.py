"""How much work MLX puts into a command buffer before it hands it to the GPU, by chip.

Others measured larger buffers 5 to 13% quicker on mixtures of experts with M1 and M3 Ultra, and no gain on an M5 Max
and on dense models (github.com/ml-explore/mlx, issue 4521). So only an Ultra gets them, and a person's own
setting wins. Not measured by us.

MLX reads these once, when it makes its device, and its first array on a Mac does that. So they are decided when this
package is imported, before any module of it imports MLX, and the system names the chip, not MLX. Where a notebook has
used MLX before that, it is too late, and nothing tells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

LARGE = {"MLX_MAX_OPS_PER_BUFFER": "1000", "MLX_MAX_MB_PER_BUFFER": "400"}


def decide(environ: MutableMapping[str, str] = os.environ) -> None:
    """Only where a Mac names its chip."""
    if sys.platform != "darwin":
        return
    from .memory.darwin import sysctl_text

    for name, value in limits(sysctl_text("machdep.cpu.brand_string") or "").items():
        environ.setdefault(name, value)


def limits(chip: str) -> dict[str, str]:
    return LARGE if chip.endswith("Ultra") else {}


def in_use(environ: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """What MLX reads, whoever set it."""
    return {name: environ[name] for name in LARGE if name in environ}
