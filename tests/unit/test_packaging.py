"""pyproject.toml lists every package by hand, because three of them stand at the top of the repository."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = ("cpu_kernels", "metal_kernels", "tui")


def test_every_package_is_listed_and_found() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = sorted(p.parent for top in ("mlxrun", *TOP) for p in (ROOT / top).rglob("__init__.py"))
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    expected = {f"mlxrun.{name}" if name.split(".")[0] in TOP else name for name in names}
    assert set(setuptools["packages"]) == expected
    assert setuptools["package-dir"] == {"mlxrun": "mlxrun"} | {f"mlxrun.{top}": top for top in TOP}


def test_the_mapped_packages_import_under_the_package() -> None:
    for top in TOP:
        assert Path(importlib.import_module(f"mlxrun.{top}").__file__ or "").parent.name == top
