"""Types that parts of quantized weights may have."""

from __future__ import annotations

import mlx.core as mx

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
WORDS = (mx.int32, mx.uint32)
