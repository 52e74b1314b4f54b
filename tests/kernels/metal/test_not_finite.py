"""Kernels given what is not finite: see proofs_not_finite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .proofs_not_finite import PROOFS


@pytest.mark.parametrize("prove", sorted({p for proofs in PROOFS.values() for p in proofs}, key=lambda p: p.__name__))
def test_it_reaches_whoever_has_it_and_nobody_else(prove: Callable[[], None]) -> None:
    prove()
