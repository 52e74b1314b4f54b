"""What a Mac says of itself and of this process, through libSystem.

Written from Apple's headers (sys/sysctl.h, libproc.h, sys/resource.h) and never run: no Mac was at hand. Whatever
the system does not answer is None, and nobody depends on more.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

USAGE_V2 = 2  # RUSAGE_INFO_V2


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


@cache
def _system() -> ctypes.CDLL | None:
    return ctypes.CDLL("/usr/lib/libSystem.dylib", use_errno=True) if sys.platform == "darwin" else None


def footprint_bytes() -> int | None:
    """What jetsam counts against this process."""
    system = _system()
    if system is None:
        return None
    usage = UsageV2()
    failed = system.proc_pid_rusage(ctypes.c_int(os.getpid()), ctypes.c_int(USAGE_V2), ctypes.byref(usage))
    return None if failed else int(usage.phys_footprint)


def sysctl_text(name: str) -> str | None:
    raw = _sysctl(name)
    return None if raw is None else raw.rstrip(b"\0").decode("utf-8", "replace")


def sysctl_number(name: str) -> int | None:
    raw = _sysctl(name)
    return int.from_bytes(raw, sys.byteorder) if raw is not None and len(raw) in (4, 8) else None


def _sysctl(name: str) -> bytes | None:
    system = _system()
    if system is None:
        return None
    label, size = name.encode(), ctypes.c_size_t(0)
    if system.sysctlbyname(label, None, ctypes.byref(size), None, ctypes.c_size_t(0)) or not size.value:
        return None
    found = ctypes.create_string_buffer(size.value)
    if system.sysctlbyname(label, found, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return None
    return found.raw[: size.value]
