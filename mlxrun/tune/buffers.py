"""How much work MLX puts into a command buffer before it hands it to the GPU, by chip.

Others measured larger buffers 5 to 13% quicker on mixtures of experts with M1 and M3 Ultra, and no gain on an M5 Max
and on dense models (github.com/ml-explore/mlx, issue 4521). So only an Ultra gets them, and a person's own
setting wins. MLX reads these when it first uses the GPU. Not measured by us.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LARGE = {"MLX_MAX_OPS_PER_BUFFER": "1000", "MLX_MAX_MB_PER_BUFFER": "400"}


def limits(chip: str) -> dict[str, str]:
    return LARGE if chip.endswith("Ultra") else {}


def apply(chip: str, environ: MutableMapping[str, str] = os.environ) -> None:
    for name, value in limits(chip).items():
        environ.setdefault(name, value)
