from __future__ import annotations

import pytest

from .build import why_not


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := why_not():
        pytest.skip(reason)
