from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlxrun.metal_kernels import launch

from .. import mslsim
from ..mslsim.build import why_not


@pytest.fixture(autouse=True)
def simulated() -> Iterator[None]:
    """Every kernel of this folder runs in the simulator."""
    if reason := why_not():
        pytest.skip(reason)
    with launch.made_by(mslsim.metal_kernel):
        yield
