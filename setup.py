"""Builds the native CPU kernels during installation, where they are wanted and a compiler is there.

A failure never stops the installation: mlxrun works without them, slowly, and tells why. A wheel without them has
another name: one for every machine.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class BuildNative(build_ext):
    def run(self) -> None:
        spec = importlib.util.spec_from_file_location("native_build", ROOT / "cpu_kernels" / "build.py")
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        folder = ROOT / "cpu_kernels" if self.inplace else Path(self.build_lib) / "mlxrun" / "cpu_kernels"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.inplace:
            (folder / builder.library_name()).unlink(missing_ok=True)  # of an earlier build: no wheel may have it
        reason = builder.try_build(folder, ROOT / "build" / "cpu_kernels")
        if reason:
            print(
                f"mlxrun: the native CPU kernels were not built, so models run many times slower on a CPU: {reason}.",
                file=sys.stderr,
            )

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class NameWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        """Asked when everything is in place: whether the library is among it decides."""
        self.root_is_pure = not any(Path(self.bdist_dir).glob("mlxrun/cpu_kernels/_native*.so"))
        return super().get_tag()


# on a Mac the GPU does the work; MLXRUN_NATIVE=1 builds them there too, =0 leaves them out anywhere
wanted = os.environ.get("MLXRUN_NATIVE", "1" if sys.platform == "linux" else "0") == "1"
setup(
    ext_modules=[Extension("mlxrun.cpu_kernels._native", sources=[])] if wanted else [],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": NameWheel},
)
