"""pyproject.toml lists every package by hand, because three of them stand at the top of the repository."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import mlx.core as mx

from mlxrun import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GENERATED = ("build.json",)
LOCKED = re.compile(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")
TOP = ("cpu_kernels", "metal_kernels", "tui")


def test_every_package_is_listed_and_found() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folders = sorted(p.parent for top in ("mlxrun", *TOP) for p in (ROOT / top).rglob("__init__.py"))
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    expected = {f"mlxrun.{name}" if name.split(".")[0] in TOP else name for name in names}
    assert set(setuptools["packages"]) == expected
    assert setuptools["package-dir"] == {"mlxrun": "mlxrun"} | {f"mlxrun.{top}": top for top in TOP}


def test_what_is_no_python_comes_along() -> None:
    """A wheel without a Metal text or a table would fail where it is first used."""
    given = PROJECT["tool"]["setuptools"]["package-data"]
    kept = {"__pycache__", "src"}  # the C++ sources are for a source distribution
    for top in ("mlxrun", *TOP):
        for file in (ROOT / top).rglob("*.*"):
            parts = file.relative_to(ROOT).parts
            if file.is_dir() or kept & set(parts) or file.suffix in (".py", ".pyi") or file.name in GENERATED:
                continue
            if file.name.startswith("_native."):
                continue
            package = ".".join(parts[:-1])
            patterns = given.get(package if top == "mlxrun" else f"mlxrun.{package}", [])
            assert any(file.match(pattern) for pattern in patterns), f"{file.relative_to(ROOT)} is not in package-data"
    assert "graft cpu_kernels/src" in (ROOT / "MANIFEST.in").read_text()


def test_the_mapped_packages_import_under_the_package() -> None:
    for top in TOP:
        assert Path(importlib.import_module(f"mlxrun.{top}").__file__ or "").parent.name == top


def test_one_release_of_mlx_is_named_everywhere() -> None:
    """The kernels are built for it, so another one in any of these places would leave them out."""
    project = PROJECT["project"]
    wishes = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    wishes += [wish for name in ("cpu", "cuda12", "cuda13") for wish in project["optional-dependencies"][name]]
    pinned = [match[2] for wish in wishes if (match := re.fullmatch(r"mlx(\[\w+\])?==([\d.]+)", wish))]
    assert len(pinned) == 5
    assert set(pinned) == {mx.__version__}


def test_a_plain_install_brings_no_library_of_mlx() -> None:
    """Or an installation for CUDA would lose its own."""
    assert not [wish for wish in PROJECT["project"]["dependencies"] if wish.startswith("mlx[")]


def test_what_homebrew_would_install_is_pinned_and_whole() -> None:
    lines = (ROOT / "packaging" / "requirements-macos.txt").read_text().splitlines()[1:]
    found = {match[1].lower().replace("_", "-"): match[2] for line in lines if (match := LOCKED.fullmatch(line))}
    assert len(found) == len(lines)
    wanted = [re.split(r"[=>\[]", wish)[0].replace("_", "-") for wish in PROJECT["project"]["dependencies"]]
    assert set(wanted) <= set(found)
    assert found["mlx"] == found["mlx-metal"] == mx.__version__
    assert f'mlxrun-{__version__}.tar.gz"' in (ROOT / "packaging" / "mlxrun.rb").read_text()


def test_the_readme_clones_into_no_folder_named_as_the_package() -> None:
    """Python that runs beside such a folder would import it, empty, in place of the package."""
    told = re.search(r"git clone \S.*? (\S+) && cd (\S+)", (ROOT / "README.md").read_text("utf-8"))
    assert told is not None
    assert told[1] == told[2] != "mlxrun"
