"""Our Metal texts compile as CUDA too, where NVRTC is installed. Compiled, not run."""

from __future__ import annotations

from typing import Any

import pytest
from mlxrun.metal_kernels import launch

from ..metal import proofs
from ..metal.made import simulated
from ..mslsim.build import why_not as no_simulator
from ..mslsim.wrapper import Generated
from . import nvrtc

# those that work in 8x8 simdgroup matrices have nothing like it in plain CUDA: qmv_few, qmm
KERNELS = {
    "qmv": proofs.prove_qmv,
    "project": proofs.prove_project,
    "heads": proofs.prove_heads,
    "best": proofs.prove_best,
    "greedy": proofs.prove_greedy,
    "experts_in": proofs.prove_experts_in,
    "experts_out": proofs.prove_experts_out,
    "router": proofs.prove_router,
    "router_logits": proofs.prove_router_logits,
    "paged_attention": proofs.prove_attention,
    "join_blocks": proofs.prove_attention,
}


@pytest.mark.parametrize("name", KERNELS)
def test_it_compiles(name: str) -> None:
    if reason := no_simulator() or nvrtc.why_not():
        pytest.skip(reason)
    kernels: list[Any] = []

    def make(**definition: Any) -> Any:
        kernels.append(simulated(**definition))
        return kernels[-1]

    with launch.made_by(make):
        KERNELS[name]()
    texts = [made for k in kernels if k.definition.name == f"mlxrun_{name}" for made in k._seen.values()]
    assert texts
    for made in texts:
        assert b".entry" in nvrtc.compiled(made)


def test_what_is_no_code_is_refused() -> None:
    if reason := nvrtc.why_not():
        pytest.skip(reason)
    with pytest.raises(nvrtc.Refused, match="error"):
        nvrtc.compiled(
            Generated("f", "[[kernel]] void f(device float* y [[buffer(0)]]) { y[0] = nothing; }", "", (), ())
        )
