"""Builds the native CPU kernels during installation, where they are wanted and a compiler is there.

A failure never stops the installation: mlxrun works without them, slowly, and tells why.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class BuildNative(build_ext):
    def run(self) -> None:
        spec = importlib.util.spec_from_file_location("native_build", ROOT / "cpu_kernels" / "build.py")
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        folder = ROOT / "cpu_kernels" if self.inplace else Path(self.build_lib) / "mlxrun" / "cpu_kernels"
        folder.mkdir(parents=True, exist_ok=True)
        reason = builder.try_build(folder, ROOT / "build" / "cpu_kernels")
        if reason:
            print(f"mlxrun: the native CPU kernels were not built: {reason}.", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


# on a Mac the GPU does the work; MLXRUN_NATIVE=1 builds them there too, =0 leaves them out anywhere
wanted = os.environ.get("MLXRUN_NATIVE", "1" if sys.platform == "linux" else "0") == "1"
setup(
    ext_modules=[Extension("mlxrun.cpu_kernels._native", sources=[])] if wanted else [],
    cmdclass={"build_ext": BuildNative},
)
