"""This machine, and the table of those that are not here."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from mlxrun.memory import darwin, machine
from mlxrun.memory.here import this_machine
from mlxrun.memory.machine import Machine, available_bytes, process_bytes, total_bytes
from mlxrun.memory.profiles import CHIPS, GIB, bandwidth_of, machines, profile
from mlxrun.spec import ModelError


def test_this_machine_believes_in_itself() -> None:
    found = this_machine()
    assert found.here
    assert 0 < found.usable <= found.total == total_bytes()
    assert found.reserved == found.total - found.usable
    assert found.name == found.name.strip() != ""
    assert 0 < available_bytes() <= total_bytes()


def test_a_process_that_grows_takes_more() -> None:
    before = process_bytes()
    held = mmap.mmap(-1, 64 << 20)  # the system's own, or what was freed before would be taken again
    for page in range(0, len(held), mmap.PAGESIZE):
        held[page] = 1
    after = process_bytes()
    assert before is not None
    assert after is not None
    assert 50 << 20 < after - before < 100 << 20, len(held)


def test_a_cgroup_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    whole, free = total_bytes(), available_bytes()
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert (total_bytes(), available_bytes()) == (1000000, 600000)
    (tmp_path / "memory.current").write_text("1400000\n")
    assert available_bytes() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert total_bytes() == whole
    assert available_bytes() == pytest.approx(free, rel=0.2)


def test_the_layout_of_rusage() -> None:
    """As the C header lays it out: 16 bytes, then 18 counters."""
    assert ctypes.sizeof(darwin.UsageV2) == 16 + 18 * 8
    assert darwin.UsageV2.phys_footprint.offset == 16 + 7 * 8


def test_the_layout_of_the_vm_statistics() -> None:
    """As mach/vm_statistics.h lays it out: counters of 4 bytes, and so many of 8 between them."""
    header = "free active inactive wired 9 purgeable speculative 4 compressor throttled external internal 1"
    fields = header.split()
    raw, wanted = b"", {}
    for place, name in enumerate(fields):
        if name.isdigit():
            raw += bytes(8 * int(name))
        else:
            wanted[name], raw = place, raw + place.to_bytes(4, sys.byteorder)
    assert len(raw) == 4 * darwin.VM_WORDS
    found = darwin.VmPages.of(raw)
    assert (found.free, found.speculative, found.purgeable, found.external) == tuple(
        wanted[name] for name in ("free", "speculative", "purgeable", "external")
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="only where there is no Mac to answer")
def test_nobody_answers_for_a_mac() -> None:
    assert darwin.footprint_bytes() is None
    assert darwin.sysctl_text("hw.model") is None
    assert darwin.sysctl_number("hw.memsize") is None
    assert (darwin.pages(), darwin.swap_used()) == (None, None)


@pytest.mark.parametrize("text", ["M4 Pro 24GB", "m4 pro 24", "Apple M4 Pro 24 GB", "M4PRO-24gb", " M4 Pro, 24GiB "])
def test_names_as_people_type_them(text: str) -> None:
    assert profile(text) == Machine(
        name="M4 Pro 24GB",
        total=25769803776,
        usable=17179869184,  # two thirds: 16 GiB
        gpu=True,
        bandwidth=273e9,
        max_buffer=12884901888,
    )


@pytest.mark.parametrize(
    ("text", "mebibytes"),  # as ggml_metal_init printed it; sources stand in profiles.py
    [("M1 16GB", 10922), ("M1 Max 32GB", 21845), ("M2 Max 64GB", 49152), ("M2 Max 96GB", 73728)],
)
def test_working_sets_that_others_saw(text: str, mebibytes: int) -> None:
    assert profile(text).usable >> 20 == mebibytes


def test_every_machine_is_found_by_its_name() -> None:
    found = machines()
    assert [profile(one.name) for one in found] == found
    assert len({one.name for one in found}) == len(found) == sum(len(chip.memory) for chip in CHIPS)
    assert [one.total for one in found] == sorted(one.total for one in found)


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("M4 Pro 25GB", "M4 Pro 24GB, M4 Pro 48GB, M4 Pro 64GB"),
        ("m1 ultra 1", "M1 Ultra 64GB, M1 Ultra 128GB"),
        ("M9 24GB", "GB"),
        ("RTX 4090", "M4 Pro 24GB"),
        ("", "M4 Pro 24GB"),
        ("M4 Pro", "M4 Pro"),
        ("M" + "4" * 5000, "GB"),
    ],
)
def test_unknown_machines(text: str, close: str) -> None:
    with pytest.raises(ModelError) as told:
        profile(text)
    assert close in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300


def test_bandwidth_by_name_and_memory() -> None:
    assert bandwidth_of("Apple M4 Max", 36 * GIB) == 410e9
    assert bandwidth_of("Apple M4 Max", 128 * GIB) == 546e9
    assert bandwidth_of("Apple M4 Max", 77 * GIB) == 410e9  # unheard of: the slower
    assert bandwidth_of("Apple M1", 8 * GIB) == 68.25e9
    assert bandwidth_of("Intel(R) Xeon(R)", 8 * GIB) is None
    assert bandwidth_of("Apple M9 Pro", 8 * GIB) is None
