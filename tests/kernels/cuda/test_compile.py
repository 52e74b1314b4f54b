"""Our Metal texts compile as the CUDA kernels that MLX would make of them, where NVRTC is installed. Nothing is run.

One text of each kernel; all that its proof makes, which takes minutes, with `make cuda`.
"""

from __future__ import annotations

import mlx.core as mx
import pytest

from ..metal import proofs
from ..metal.made import simulated
from ..mslsim.build import why_not as no_simulator
from . import custom, nvrtc

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


def texts_of(name: str) -> dict[str, str]:
    return custom.distinct(custom.calls_of(simulated, KERNELS[name]), name)


@pytest.mark.parametrize("name", KERNELS)
def test_it_compiles(name: str) -> None:
    if reason := no_simulator() or nvrtc.why_not():
        pytest.skip(reason)
    text, kernel = next(iter(texts_of(name).items()))
    assert b".entry" in nvrtc.compiled(text, kernel)


def test_what_is_no_code_is_refused() -> None:
    if reason := nvrtc.why_not():
        pytest.skip(reason)
    with pytest.raises(nvrtc.Refused, match="error"):
        nvrtc.compiled("__global__ void f(float* y) { y[0] = nothing; }", "f")


def test_kernels_without_a_twin_say_so() -> None:
    for name in custom.MATRICES:
        with pytest.raises(custom.NoTwin, match="8x8 matrices"):
            custom.cuda_kernel(name=f"mlxrun_{name}", source="", header="", input_names=["x"], output_names=["y"])


def test_threadgroup_memory_is_shared_and_a_pointer_is_a_pointer() -> None:
    text = "threadgroup float part[4][SIMDGROUPS];\nfloat sum(threadgroup float* from, const device uint* w);"
    assert (
        custom.shared(text) == "__shared__ float part[4][SIMDGROUPS];\nfloat sum( float* from, const device uint* w);"
    )


def test_the_text_is_put_together_as_mlx_does() -> None:
    definition = {"name": "mlxrun_f", "input_names": ["x", "n"], "output_names": ["y"], "header": "int h;\n"}
    definition["source"] = "threadgroup T part[N];\ny[0] = x_shape[0];"
    call = {"inputs": [mx.ones((2, 3), mx.float16), mx.array(1)], "output_dtypes": [mx.float32]}
    call["template"] = [("T", mx.bfloat16), ("N", 4), ("B", True)]
    kernel, text = custom.generated(definition, call)
    assert kernel == "mlx::core::cu::custom_kernel_mlxrun_f"
    assert text.endswith(
        "int h;\nnamespace mlx::core::cu {\n\nnamespace cg = cooperative_groups;\n\n"
        "__global__ void custom_kernel_mlxrun_f(\n    const __half* x,\n    const __grid_constant__ Shape x_shape,\n"
        "    const int32_t* n,\n    float* y) {\n  using T = __nv_bfloat16;\n  constexpr int N = 4;\n"
        "  constexpr bool B = true;\n\n__shared__ T part[N];\ny[0] = x_shape[0];\n}\n\n} // namespace mlx::core::cu\n"
    )


def compile_all() -> None:
    if reason := no_simulator() or nvrtc.why_not():
        raise SystemExit(reason)
    for name in KERNELS:
        for number, (text, kernel) in enumerate(texts_of(name).items(), 1):
            assert b".entry" in nvrtc.compiled(text, kernel)
            print(f"{name}: text {number} compiles", flush=True)


if __name__ == "__main__":
    compile_all()
