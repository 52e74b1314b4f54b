"""Metal texts read by clang: what the simulator cannot see. See docs/kernels.md."""

from .addresses import faults, passed, why_not

__all__ = ["faults", "passed", "why_not"]
