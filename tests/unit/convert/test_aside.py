"""What is made aside: nothing of it stays, not even of a process that was killed; what is being made is left alone."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.convert.aside import MAKING, write_aside
from mlxrun.spec import ModelError
from tests.unit.convert.writable import folder_of

WAITS = """
import sys, time
from contextlib import contextmanager
from mlxrun import cli
from mlxrun.cli import convert

@contextmanager
def bar(title):
    def wait(done, total):
        if 0 < done < total:
            print("half made", flush=True)
            time.sleep(600)
    yield wait

convert.bar = bar
sys.exit(cli.main(["convert", *sys.argv[1:]]))
"""


@contextmanager
def half_made(source: Path, target: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that writes and is not done."""
    command = [sys.executable, "-c", WAITS, str(source), "-o", str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "half made\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def halves(folder: Path) -> list[Path]:
    return [place for place in folder.iterdir() if place.name.endswith(MAKING)]


def test_what_a_killed_convert_left_goes_with_the_next_try(tmp_path: Path) -> None:
    name = "out.gguf"
    source, target = folder_of("llama", tmp_path / "m"), tmp_path / "made" / name
    with half_made(source, target) as process:
        (left,) = halves(target.parent)
        (target.parent / f".{name}.somebodys{MAKING}").symlink_to(source)
        assert cli.main(["convert", str(source), "-o", str(target)]) == 0  # while the other lives
        assert left in halves(target.parent)
        process.kill()
        process.wait()
    assert left.exists()
    with pytest.raises(KeyboardInterrupt), write_aside(target.with_name("another"), folder=False):
        raise KeyboardInterrupt
    assert left.exists()  # of another target
    target.rename(tmp_path / "first")
    assert cli.main(["convert", str(source), "-o", str(target)]) == 0
    assert [place.name for place in halves(target.parent)] == [f".{name}.somebodys{MAKING}"]  # a link is none of ours
    assert source.exists()


def test_a_folder_of_who_was_killed_goes_too(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from mlxrun.convert.aside import write_aside\n"
        "with write_aside(Path(sys.argv[1])) as aside:\n"
        "    (aside / 'half').write_bytes(bytes(9)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = halves(tmp_path)
    assert (left / "half").exists()
    with write_aside(tmp_path / "out") as aside:
        assert halves(tmp_path) == [aside]
    assert [place.name for place in tmp_path.iterdir()] == ["out"]


# ---- full disks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_a_disk_without_room_is_told_before(
    name: str, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of("llama", tmp_path / "m")
    assert cli.main(["convert", str(source), "-o", str(small_disk / name)]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        rf"mlxrun: .* takes 0\.\d MB, and 0\.1 MB are free in {small_disk}: "
        r"free some room there, or write to another disk\.\n",
        said,
    ), said
    assert not list(small_disk.iterdir())


def test_a_disk_that_fills_leaves_nothing(small_disk: Path) -> None:
    with (
        pytest.raises(
            ModelError, match=r"out could not be written whole \(No space left on device\); 0\.1 MB are free"
        ),
        write_aside(small_disk / "out") as aside,
    ):
        (aside / "half").write_bytes(bytes(1 << 20))
    assert not list(small_disk.iterdir())


def test_a_limit_that_is_reached_leaves_nothing(tmp_path: Path) -> None:
    """As a quota would end it."""
    source = folder_of("llama", tmp_path / "m")
    code = (
        "import resource, sys; from mlxrun import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "sys.exit(cli.main(['convert', sys.argv[1], '-o', sys.argv[2]]))"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "made" / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "out.gguf could not be written whole (File too large); " in done.stderr
    place = f"are free in {tmp_path / 'made'} without it: "
    assert done.stderr.endswith(f"{place}free some room there, or write to another disk.\n")
    assert not list((tmp_path / "made").iterdir())
