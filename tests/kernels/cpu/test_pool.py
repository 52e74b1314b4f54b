"""The thread pool under stress: sizes that change, many callers, changed settings, sleep, the end of numbers, forks.

`make sanitize` runs the same program under ThreadSanitizer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import compiled
from .made import weight

HERE = Path(__file__).parent
SANITIZED = os.environ.get("MLXRUN_TEST_POOL_FLAGS", "").split()
# how often; a pool whose workers could take a piece of the next call failed the first within 1,000
PARTS = {"sizes": 10000, "callers": 3000, "settings": 1000, "late": 24, "wrap": 1000, "sleepers": 300, "forks": 20,
         "meet": 24}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_every_piece_is_done_once(part: str) -> None:
    if reason := compiled.why_not():
        pytest.skip(f"The pool's stress program is compiled for the test: {reason}")
    if SANITIZED and part == "forks":
        pytest.skip("ThreadSanitizer does not follow threads that a forked child starts.")
    flags = ("-O1", f'-DPOOL="{compiled.SOURCES / "pool.cpp"}"', *SANITIZED)
    program = compiled.program(HERE / "pool_stress.cpp", *flags)
    calls = PARTS[part] // (6 if SANITIZED else 1)
    done = subprocess.run([program, part, str(calls)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kernels_from_many_threads_while_the_number_of_threads_changes() -> None:
    """Each Python thread has a stream of its own, so that calls meet in the pool."""
    random = np.random.default_rng(1)
    shapes = [(1, 48, 64), (7, 160, 320), (40, 33, 96)]
    cases = []
    for rows, outputs, inputs in shapes:
        w = weight(random, (outputs, inputs), ("affine", 4, 32))
        x = mx.array(random.normal(size=(rows, inputs)).astype(np.float32))
        cases.append((x, w.packed, native.matmul(x, w.packed), native.rms_norm(x, None, 1e-5)))
    mx.eval(cases[0][2], cases[1][2], cases[2][2], *(case[3] for case in cases))
    wrong: list[str] = []

    def work(number: int) -> None:
        with mx.stream(mx.new_stream(mx.cpu)):
            for i in range(150):
                x, w, product, normed = cases[(number + i) % 3]
                if not mx.array_equal(native.matmul(x, w), product) or not mx.array_equal(
                    native.rms_norm(x, None, 1e-5), normed
                ):
                    wrong.append(f"thread {number}, round {i}")

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for n in range(200):
        native.set_threads(n % 5)
    for worker in workers:
        worker.join()
    assert not wrong


def in_python(text: str, **environment: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(text)]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=compiled.ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_thousands_of_calls_with_more_threads_than_cores() -> None:
    printed = in_python(
        """
        import mlx.core as mx
        from tests.kernels.cpu.library import native
        w = native.pack_plain(mx.ones((200, 40)))
        x = [mx.ones((n, 40)) for n in (1, 2, 33)]
        for i in range(3000):
            y = native.matmul(x[i % 3], w)
            for _ in range(3):
                y = native.rms_norm(y, None, 0.0)
            mx.eval(y)
        print(native.threads(), float(y.sum()))
        """,
        MLXRUN_THREADS="4",
    )
    assert printed == "4 6600.0"


def test_a_forked_child_can_compute() -> None:
    """What MLX itself loses in a fork is its streams' threads; the pool's are hired anew."""
    printed = in_python(
        """
        import os, mlx.core as mx
        from tests.kernels.cpu.library import native
        w = native.pack_plain(mx.ones((600, 64)))
        x = mx.ones((40, 64))
        mx.eval(native.matmul(x, w))
        child = os.fork()
        if child == 0:
            mx.set_default_stream(mx.new_stream(mx.cpu))
            packed = native.pack_plain(mx.ones((600, 64), stream=mx.default_stream(mx.cpu)))
            y = native.matmul(mx.ones((40, 64)), packed)
            os._exit(0 if float(y.sum()) == 40 * 600 * 64 else 1)
        print(os.waitpid(child, 0)[1], float(native.matmul(x, w).sum()))
        """,
        MLXRUN_THREADS="3",
    )
    assert printed == f"0 {40 * 600 * 64}.0"


@pytest.mark.parametrize(("wish", "threads"), [("1", "1"), ("3", "3"), ("12", "12"), ("999", "256")])
def test_the_environment_sets_the_number_of_threads(wish: str, threads: str) -> None:
    text = "from tests.kernels.cpu.library import native; print(native.threads())"
    assert in_python(text, MLXRUN_THREADS=wish) == threads


def test_a_wish_that_is_no_number_is_passed_over() -> None:
    text = "from tests.kernels.cpu.library import native; print(native.threads())"
    usual = in_python(text, MLXRUN_THREADS="")
    assert {in_python(text, MLXRUN_THREADS=wish) for wish in ("0", "-1", "two", "2x")} == {usual}


def test_without_a_wish_there_is_a_thread_for_each_core_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXRUN_THREADS", raising=False)
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("This system does not tell which cores may be used.")
    folder = Path("/sys/devices/system/cpu")
    files = {cpu: folder / f"cpu{cpu}" / "topology" / "thread_siblings_list" for cpu in os.sched_getaffinity(0)}
    cores = {file.read_text() if file.exists() else str(cpu) for cpu, file in files.items()}
    native.set_threads(0)
    assert native.threads() == min(len(cores), 256)


def test_a_process_that_may_use_one_core_has_one_thread() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("This system does not tell which cores may be used.")
    printed = in_python(
        """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from tests.kernels.cpu.library import native
        print(native.threads())
        """,
        MLXRUN_THREADS="",
    )
    assert printed == "1"


def test_counting_cores_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXRUN_THREADS", raising=False)
    if not (open_files := Path("/proc/self/fd")).exists():
        pytest.skip("This system does not tell which files are open.")
    before = len(list(open_files.iterdir()))
    for _ in range(20):
        native.set_threads(0)
    assert len(list(open_files.iterdir())) < before + 20
