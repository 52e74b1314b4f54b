"""Keeps the record of worst differences when all is well and GOLDEN_RECORD names a file (not together with -n)."""

from __future__ import annotations

import os
from pathlib import Path

from . import record


def pytest_sessionfinish(exitstatus: int) -> None:
    if "GOLDEN_RECORD" in os.environ and exitstatus == 0:
        record.save(Path(os.environ["GOLDEN_RECORD"]))
