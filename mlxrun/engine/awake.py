"""Keeps a Mac from going to sleep by itself while somebody waits for an answer.

By a power assertion, which the system drops with the process that has it. It does not hold the screen, nor a Mac
whose lid is closed: then the answer rests and goes on after waking. Elsewhere it does nothing. Never ran on a Mac.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_char_p, c_int32, c_uint32, c_void_p
from typing import Any

FRAMEWORKS = "/System/Library/Frameworks"
NO_IDLE_SLEEP, WHY = b"PreventUserIdleSystemSleep", b"mlxrun is answering"
ON = 255
UTF8 = 0x08000100


class Awake:
    def __init__(self, power: Power | None = None) -> None:
        self._power = power or power_of_this_mac()
        self._held: int | None = None

    def hold(self) -> None:
        if self._power is not None and self._held is None:
            self._held = self._power.hold()

    def release(self) -> None:
        if self._power is not None and self._held is not None:
            self._power.release(self._held)
        self._held = None


class Power:
    """What a Mac has for it, by the names of Apple's IOKit."""

    def __init__(self, iokit: Any, foundation: Any) -> None:
        self._iokit = iokit
        text = foundation.CFStringCreateWithCString
        text.argtypes, text.restype = (c_void_p, c_char_p, c_uint32), c_void_p
        create, release = iokit.IOPMAssertionCreateWithName, iokit.IOPMAssertionRelease
        create.argtypes, create.restype = (c_void_p, c_uint32, c_void_p, POINTER(c_uint32)), c_int32
        release.argtypes, release.restype = (c_uint32,), c_int32
        self._kind, self._why = text(None, NO_IDLE_SLEEP, UTF8), text(None, WHY, UTF8)

    def hold(self) -> int | None:
        """The assertion's number; None where the system gives none."""
        number = c_uint32(0)
        failed = self._iokit.IOPMAssertionCreateWithName(self._kind, ON, self._why, ctypes.byref(number))
        return None if failed else number.value

    def release(self, number: int) -> None:
        self._iokit.IOPMAssertionRelease(number)


def power_of_this_mac() -> Power | None:
    if sys.platform != "darwin":
        return None
    try:
        iokit, foundation = (
            ctypes.CDLL(f"{FRAMEWORKS}/{name}.framework/{name}") for name in ("IOKit", "CoreFoundation")
        )
        return Power(iokit, foundation)
    except (OSError, AttributeError):  # a Mac that has them no longer sleeps as it likes
        return None
