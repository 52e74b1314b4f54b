"""What `mlxrun.load` is told."""

from __future__ import annotations

from typing import Any

import pytest

import mlxrun
from mlxrun.core import RequestError


def test_a_word_that_load_does_not_know_is_named() -> None:
    strange: dict[str, Any] = {"quantise": 4}
    with pytest.raises(RequestError, match=r"load knows no 'quantise'; it takes context, adapter, options, dtype"):
        mlxrun.load("smollm2", **strange)
