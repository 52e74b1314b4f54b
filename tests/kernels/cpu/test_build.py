"""A build that fails leaves what was there, and says why."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from mlxrun.cpu_kernels import build

from .compiled import ROOT, why_not

WITHOUT_LIBRARY = True  # these tests run where there is none too
NO_COMPILER = "no C++ compiler was found"
compiles = pytest.mark.skipif(bool(why_not()), reason=f"Nothing can be compiled: {why_not()}")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda command: None)


def test_a_failed_build_leaves_the_library_and_its_record(failing: None, tmp_path: Path) -> None:
    library, record = tmp_path / build.library_name(), tmp_path / build.RECORD
    library.write_bytes(b"works")
    record.write_text('{"built": true, "mlx": "1.2.3"}')
    reason = build.try_build(tmp_path, tmp_path / "objects")
    assert reason is not None
    assert NO_COMPILER in reason
    assert "stays" in reason
    assert library.read_bytes() == b"works"
    assert json.loads(record.read_text()) == {"built": True, "mlx": "1.2.3"}


def test_a_first_build_that_fails_is_recorded(failing: None, tmp_path: Path) -> None:
    reason = build.try_build(tmp_path, tmp_path / "objects")
    told = json.loads((tmp_path / build.RECORD).read_text())
    assert (told["built"], told["reason"]) == (False, reason)
    assert not (tmp_path / build.library_name()).exists()


@compiles
def test_a_compiler_that_fails_is_quoted_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.cpp"
    broken.write_text("int f() { return 1 +; }\n")
    monkeypatch.setattr(build, "jobs", lambda machine, sanitize: [(broken, [])])
    monkeypatch.setattr(build, "includes", list)
    monkeypatch.setattr(build, "versions", lambda: {"mlx": "1"})
    (tmp_path / build.library_name()).write_bytes(b"works")
    reason = build.try_build(tmp_path, tmp_path / "objects")
    assert reason is not None
    assert "broken.cpp:1" in reason
    assert sorted(path.name for path in tmp_path.iterdir()) == [build.library_name(), "broken.cpp", "objects"]
    assert not list((tmp_path / "objects" / "1-plain").iterdir())


@compiles
def test_warnings_about_our_sources_are_told_until_they_are_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours.cpp"
    ours.write_text("#include <theirs.h>\nint f(int unused) { return 1; }\n")
    (tmp_path / "theirs.h").write_text("inline int g(int unused) { return 1; }\n")
    monkeypatch.setattr(build, "jobs", lambda machine, sanitize: [(ours, [])])
    monkeypatch.setattr(build, "includes", lambda: ["-isystem", str(tmp_path)])
    monkeypatch.setattr(build, "versions", lambda: {"mlx": "1"})
    for _ in range(2):  # the second time nothing is compiled
        told = build.check(tmp_path / "objects")
        assert "ours.cpp:2" in told
        assert "theirs.h" not in told
    ours.write_text("int f() { return 1; }\n")
    assert build.check(tmp_path / "objects") == ""


@compiles
def test_what_the_build_needs_and_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build.importlib.util.find_spec
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None if name == "nanobind" else found(name))
    assert "nanobind is missing" in str(build.try_build(tmp_path, tmp_path / "objects"))


def test_the_development_tools_bring_the_nanobind_that_the_build_wants() -> None:
    """Without it `make sanitize` and a build by hand have no headers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [r for r in project["build-system"]["requires"] if re.match("nanobind", r)]
    brought = [r for r in project["project"]["optional-dependencies"]["dev"] if re.match("nanobind", r)]
    assert wanted == brought != []
