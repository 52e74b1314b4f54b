"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mlxrun", deadline=None)  # a busy machine is not a failure
settings.register_profile("thorough", deadline=None, max_examples=1000)  # by hand: --hypothesis-profile=thorough
settings.load_profile("mlxrun")


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """A real model, SmolLM2-135M-Instruct: from the model store, which brings it once if it is not there."""
    given = os.environ.get("MLXRUN_TEST_GGUF")
    if given:
        return Path(given)
    from mlxrun.store import starter

    return starter.fetch()
