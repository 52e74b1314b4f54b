"""The library of the folder that MLXRUN_TEST_NATIVE names, for this process, in the place of the installed one.

To be imported before anything that imports mlxrun; by the processes that tests start too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

import mlx.core  # noqa: F401 libmlx must be there before the library that needs it

NAME = "mlxrun.cpu_kernels._native"

if folder := os.environ.get("MLXRUN_TEST_NATIVE"):
    path = Path(folder) / ("_native" + sysconfig.get_config_var("EXT_SUFFIX"))
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])

from mlxrun.cpu_kernels import native, status  # noqa: E402 after the library that it shall find

__all__ = ["folder", "native", "status"]
