"""Keeps the record of worst differences when all is well and GOLDEN_RECORD names a file (not together with -n).
GOLDEN_CASES names the only cases that are run."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import record

NONE = SimpleNamespace(params={})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    only = set(os.environ.get("GOLDEN_CASES", "").split())
    if only:
        items[:] = [item for item in items if only & {str(v) for v in getattr(item, "callspec", NONE).params.values()}]


def pytest_sessionfinish(exitstatus: int) -> None:
    if "GOLDEN_RECORD" in os.environ and exitstatus == 0:
        record.save(Path(os.environ["GOLDEN_RECORD"]))
