"""Scratch memory: kept from call to call, given back when asked, never more than calls need."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels import native

STATUS = Path("/proc/self/statm")
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def told() -> None:
    if not STATUS.exists():
        pytest.skip("This system does not tell how much memory is in use.")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer keeps what was freed, to see who reads it.")


def resident() -> int:
    return int(STATUS.read_text().split()[1]) * mmap.PAGESIZE


@pytest.fixture(scope="module")
def rows() -> mx.array:
    """Of a kilobyte, of which 100 MB do not lie evenly: scratch memory holds a copy, all the rest is small."""
    made = mx.zeros((MEGABYTE // 1024 // 8 * 100, 9, 256))
    mx.eval(made)
    return made


def take(rows: mx.array, megabytes: int) -> None:
    """A call that needs so much. glibc gives back at once what is above 32."""
    some = rows[: MEGABYTE // 1024 // 8 * megabytes, :8]
    mx.eval(native.matmul(some, native.pack_plain(mx.ones((1, 256)))))


def test_it_is_given_back_when_asked(rows: mx.array) -> None:
    for _ in range(2):
        take(rows, 48)
        take(rows, 48)
        before = resident()
        native.release_scratch()
        mx.synchronize(mx.cpu)
        assert before - resident() > 40 * MEGABYTE


def test_calls_that_need_ever_more_leave_nothing_behind(rows: mx.array) -> None:
    """The block that one call leaves for the next is used by it, then exchanged for a larger one."""
    take(rows, 34)
    native.release_scratch()
    mx.synchronize(mx.cpu)
    before = resident()
    for megabytes in (36, 44, 52):
        take(rows, megabytes)
        take(rows, megabytes)
    assert 45 * MEGABYTE < resident() - before < 70 * MEGABYTE


def test_what_is_too_large_is_not_kept(rows: mx.array) -> None:
    """64 MB at most."""
    take(rows, 34)
    native.release_scratch()
    mx.synchronize(mx.cpu)
    before = resident()
    for _ in range(2):
        take(rows, 100)
    assert resident() - before < 70 * MEGABYTE
