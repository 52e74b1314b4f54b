"""A GPU of the Metal kind on a CPU, for tests: runs kernel text, watches every access, counts every byte.

    with settings(order=1) as launches:
        y = metal_kernel("name", ["x"], ["y"], source)(inputs=[x], grid=(32, 1, 1), ...)

See docs/kernels.md for what it finds and what it cannot know.
"""

from .build import CompileError, Mode
from .simulator import Kernel, KernelFault, Launch, Traffic, metal_kernel, settings

__all__ = ["CompileError", "Kernel", "KernelFault", "Launch", "Mode", "Traffic", "metal_kernel", "settings"]
