"""What a Mac says of itself and of this process, through libSystem.

Written from Apple's headers (sys/sysctl.h, libproc.h, sys/resource.h, mach/vm_statistics.h) and never run: no Mac was
at hand. Whatever the system does not answer is None, and nobody depends on more. `system` is the only way to it, so
tests script a Mac by putting another in its place.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from functools import cache
from typing import Protocol

USAGE_V2 = 2  # RUSAGE_INFO_V2
VM_INFO64 = 4  # HOST_VM_INFO64
VM_WORDS = 38  # HOST_VM_INFO64_REV1_COUNT: integers of 4 bytes that struct vm_statistics64 takes
SWAP_USED = 16  # where xsu_used lies in struct xsw_usage


class UsageV2(ctypes.Structure):
    """struct rusage_info_v2 of sys/resource.h."""

    _fields_ = (
        ("uuid", ctypes.c_uint8 * 16),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "user_time",
                "system_time",
                "pkg_idle_wkups",
                "interrupt_wkups",
                "pageins",
                "wired_size",
                "resident_size",
                "phys_footprint",
                "proc_start_abstime",
                "proc_exit_abstime",
                "child_user_time",
                "child_system_time",
                "child_pkg_idle_wkups",
                "child_interrupt_wkups",
                "child_pageins",
                "child_elapsed_abstime",
                "diskio_bytesread",
                "diskio_byteswritten",
            )
        ),
    )


class System(Protocol):
    """Raw answers; None where there is none."""

    def sysctl(self, name: str) -> bytes | None: ...

    def vm_statistics(self) -> bytes | None:
        """struct vm_statistics64, without what came after its revision 1."""

    def footprint(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class VmPages:
    """Of the whole machine, counted as struct vm_statistics64 does."""

    free: int  # those that were read ahead and never used are among them
    speculative: int  # these
    purgeable: int  # their owners can do without what is in them
    external: int  # of files: they can be read again

    @classmethod
    def of(cls, raw: bytes) -> VmPages:
        free, *_ = struct.unpack_from("=4I", raw)
        purgeable, speculative = struct.unpack_from("=2I", raw, 88)
        _compressor, _throttled, external, _internal = struct.unpack_from("=4I", raw, 128)
        return cls(free, speculative, purgeable, external)


class LibSystem:
    def __init__(self) -> None:
        self._library = ctypes.CDLL("/usr/lib/libSystem.dylib", use_errno=True)
        self._library.mach_host_self.restype = ctypes.c_uint
        self._host = ctypes.c_uint(self._library.mach_host_self())  # asked for once: each answer is another reference

    def sysctl(self, name: str) -> bytes | None:
        label, size = name.encode(), ctypes.c_size_t(0)
        if self._library.sysctlbyname(label, None, ctypes.byref(size), None, ctypes.c_size_t(0)) or not size.value:
            return None
        found = ctypes.create_string_buffer(size.value)
        if self._library.sysctlbyname(label, found, ctypes.byref(size), None, ctypes.c_size_t(0)):
            return None
        return found.raw[: size.value]

    def vm_statistics(self) -> bytes | None:
        found, count = ctypes.create_string_buffer(4 * VM_WORDS), ctypes.c_uint(VM_WORDS)
        if self._library.host_statistics64(self._host, ctypes.c_int(VM_INFO64), found, ctypes.byref(count)):
            return None
        return found.raw if count.value >= VM_WORDS else None

    def footprint(self) -> int | None:
        usage = UsageV2()
        failed = self._library.proc_pid_rusage(ctypes.c_int(os.getpid()), ctypes.c_int(USAGE_V2), ctypes.byref(usage))
        return None if failed else int(usage.phys_footprint)


@cache
def system() -> System | None:
    """None: this is no Mac."""
    return LibSystem() if sys.platform == "darwin" else None


def footprint_bytes() -> int | None:
    """What jetsam counts against this process."""
    asked = system()
    return None if asked is None else asked.footprint()


def sysctl_text(name: str) -> str | None:
    raw = _sysctl(name)
    return None if raw is None else raw.rstrip(b"\0").decode("utf-8", "replace")


def sysctl_number(name: str) -> int | None:
    raw = _sysctl(name)
    return int.from_bytes(raw, sys.byteorder) if raw is not None and len(raw) in (4, 8) else None


def swap_used() -> int | None:
    """Bytes in the swap files; None: not known."""
    raw = _sysctl("vm.swapusage")
    return None if raw is None or len(raw) < SWAP_USED + 8 else int(struct.unpack_from("=Q", raw, SWAP_USED)[0])


def pages() -> VmPages | None:
    asked = system()
    raw = None if asked is None else asked.vm_statistics()
    return None if raw is None or len(raw) < 4 * VM_WORDS else VmPages.of(raw)


def _sysctl(name: str) -> bytes | None:
    asked = system()
    return None if asked is None else asked.sysctl(name)
