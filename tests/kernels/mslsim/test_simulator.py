"""The simulator itself: right kernels run in any order, wrong ones are told what is wrong with them."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest

from . import CompileError, KernelFault, Mode, metal_kernel, settings

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
PLACE = "uint g = thread_position_in_grid.x; uint i = thread_position_in_threadgroup.x; "
LANE = "uint g = thread_position_in_grid.x; uint lane = thread_index_in_simdgroup; "


def tree(first: str = BARRIER, later: str = BARRIER) -> str:
    """Sum of 64 numbers in threadgroup memory."""
    return (
        PLACE
        + f"""threadgroup float tmp[64]; tmp[i] = inp[g];
    {first}
    for (uint o = 32; o > 0; o >>= 1) {{ if (i < o) tmp[i] += tmp[i + o]; {later} }}
    out[g] = tmp[0];"""
    )


def run(
    source: str, *, count: int = 256, group: int = 64, order: int = 0, mode: Mode = Mode.CHECKED, **more
) -> np.ndarray:
    kernel = metal_kernel("toy", ["inp"], ["out"], source, atomic_outputs=more.pop("atomic", False))
    with settings(mode, order, seconds=more.pop("seconds", 60)):
        return np.array(
            kernel(
                inputs=[mx.arange(256).astype(mx.float32)],
                grid=more.pop("grid", (count, 1, 1)),
                threadgroup=(group, 1, 1),
                output_shapes=[(256,)],
                output_dtypes=[more.pop("dtype", mx.float32)],
                **more,
            )[0]
        )


@pytest.mark.parametrize("order", range(6))
def test_a_right_kernel_gives_the_same_in_every_order(order: int) -> None:
    assert (run(tree(), order=order) == np.repeat(np.arange(256.0).reshape(4, 64).sum(1), 64)).all()


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_computes_the_same(mode: Mode) -> None:
    assert (run(tree(), mode=mode) == np.repeat(np.arange(256.0).reshape(4, 64).sum(1), 64)).all()


# which of the two is seen first depends on the order
UNORDERED = r"race on tmp|tmp\[\d+\] is read before"
FAULTS = {
    "no first barrier": (tree(first=""), UNORDERED),
    "no barrier in the loop": (tree(later=""), UNORDERED),
    "a simdgroup's barrier for a threadgroup's": (
        tree(first="simdgroup_barrier(mem_flags::mem_threadgroup);"),
        UNORDERED,
    ),
    "a barrier for the wrong memory": (tree(first="threadgroup_barrier(mem_flags::mem_device);"), UNORDERED),
    "a barrier for no memory": (tree(first="threadgroup_barrier(mem_flags::mem_none);"), UNORDERED),
    "read past the end": (PLACE + "out[g] = inp[g + 1];", "read outside of inp: bytes 1024"),
    "read far past the end": (PLACE + "out[g] = inp[g + 100000000];", "read outside of inp: bytes 400000000"),
    "read before the start": (PLACE + "out[g] = inp[int(g) - 1];", "read outside of inp: bytes -4"),
    "write past the end": (PLACE + "out[g + 1] = inp[g];", "write outside of out: bytes 1024"),
    "write past threadgroup memory": (
        PLACE + "threadgroup float t[64]; threadgroup float* p = t; p[i + 1] = 1; out[g] = 1;",
        "write outside of t",
    ),
    "write past threadgroup memory, by a constant": (
        PLACE + "threadgroup float t[64]; if (i == 0) t[64] = 1; out[g] = 1;",
        "index outside of an array",
    ),
    "write to an input": (PLACE + "((device float*)inp)[g] = 1; out[g] = 1;", "write to inp, which is an input"),
    "barrier in a branch": (PLACE + f"if (i < 40) {BARRIER} out[g] = 1;", "reached by 40 of 64 threads"),
    "return before a barrier": (PLACE + f"if (i >= 60) return; {BARRIER} out[g] = 1;", "reached by 60 of 64 threads"),
    "two barriers in two branches": (
        PLACE + f"if (i < 32) {{ {BARRIER} }} else {{ {BARRIER} }} out[g] = 1;",
        "wait at different barriers",
    ),
    "sums in two branches": (
        LANE + "float v; if (lane < 16) v = simd_sum(inp[lane]); else v = simd_sum(2 * inp[lane]); out[g] = v;",
        "wait at different places",
    ),
    "a sum for half the lanes": (
        LANE + "float v = 0; if (lane < 16) v = simd_sum(inp[lane]); out[g] = v;",
        "16 of the 32",
    ),
    "a barrier for half the lanes": (
        LANE + "if (lane < 8) simdgroup_barrier(mem_flags::mem_threadgroup); out[g] = 1;",
        "reached by 8 of the 32 lanes",
    ),
    "read of a lane that is not there": (LANE + "out[g] = simd_shuffle(inp[g], lane + 1);", "reads lane 32"),
    "threadgroups write one place": (PLACE + "if (i == 0) out[0] = inp[g]; else out[g] = 0;", r"race on out\[0\]"),
    "threads write one place": (PLACE + "out[g / 2] = inp[g];", "race on out"),
    "threads write one place, the same value": (PLACE + "out[g / 2] = 1;", "race on out"),
    "a write after reads without a barrier": (
        PLACE + f"threadgroup float t[64]; t[i] = inp[g]; {BARRIER} float v = t[0]; if (i == 40) t[0] = 1; out[g] = v;",
        "race on t",
    ),
    "memory that nobody wrote": (PLACE + "threadgroup float t[64]; out[g] = t[i];", "read before anything is written"),
    "memory left by the threadgroup before": (
        PLACE + "threadgroup float t[64]; if (g < 64) t[i] = 1; out[g] = t[i];",
        "read before anything is written",
    ),
    "an output read before it is written": (PLACE + "out[g] += inp[g];", r"out\[0\] is read before"),
    "outputs left out": (
        PLACE + "if (g != 77) out[g] = inp[g];",
        r"1 of 256 elements of out are never written, first \[77\]",
    ),
    "too much threadgroup memory": (
        PLACE + "threadgroup float a[8000]; threadgroup float b[300]; a[i] = b[i] = 1; out[g] = a[i] + b[i];",
        "threadgroup memory of 33200 bytes, the limit is 32768",
    ),
    "a vector at an odd place": (
        PLACE + "float4 v = *(const device float4*)(inp + (g & 127) + 1); out[g] = v.x + v.w;",
        "not aligned to its size",
    ),
    "an index past a private array": (
        PLACE + "float t[4] = {1, 2, 3, 4}; out[g] = t[i & 7];",
        "index outside of an array",
    ),
    "a pointer past a private array": (
        PLACE
        + "float t[4] = {1, 2, 3, 4}; float* p = t; for (uint j = 0; j <= (g | 4); j++) p[j] = j; out[g] = t[i & 3];",
        "pointer outside of a private variable",
    ),
    "a shift too far": (PLACE + "out[g] = 1u << (i + 1);", "shift by more bits"),
    "a product too large": (PLACE + "out[g] = int(g) * 100000000;", "product overflows"),
    "a matrix product in half a simdgroup": (
        PLACE + "simdgroup_float8x8 m(1.0f); if (i < 16) simdgroup_multiply_accumulate(m, m, m, m); out[g] = 1;",
        "reached by 16 of the 32 lanes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(fault: str) -> None:
    source, message = FAULTS[fault]
    with pytest.raises(KernelFault, match=message):
        run(source)


def test_a_grid_given_in_threadgroups_leaves_outputs_unwritten() -> None:
    with pytest.raises(KernelFault, match="252 of 256 elements of out are never written"):
        run(PLACE + "out[g] = inp[g];", grid=(4, 1, 1))


@pytest.mark.parametrize("loop", ["while (inp[0] < 1) n++;", "while (simd_sum(inp[0]) < 1) n++;"])
def test_a_kernel_that_never_ends_is_stopped(loop: str) -> None:
    with pytest.raises(KernelFault, match="runs for too long"):
        run(PLACE + f"int n = 0; {loop} out[g] = n;", seconds=1)


def test_messages_name_the_line_of_the_body() -> None:
    with pytest.raises(KernelFault, match=r"toy:3$"):
        run(PLACE + "\n// the second line\nout[g] = inp[g + 1];")


def test_atomics_never_race_with_each_other() -> None:
    add = PLACE + "atomic_fetch_add_explicit(&out[g / 64], inp[g], memory_order_relaxed);"
    got = run(add, atomic=True, init_value=0)
    assert (got[:4] == np.arange(256.0).reshape(4, 64).sum(1)).all()
    with pytest.raises(KernelFault, match="race on out"):
        run(add + " if (i == 0) ((device float*)out)[g / 64] = 0;", atomic=True, init_value=0)


def test_barriers_of_a_simdgroup_order_its_own_lanes() -> None:
    source = (
        LANE
        + """threadgroup float t[32]; t[lane] = inp[g];
    simdgroup_barrier(mem_flags::mem_threadgroup); out[g] = t[31 - lane];"""
    )
    assert (run(source, group=32)[:32] == np.arange(32)[::-1]).all()


def test_narrowing_to_bfloat_must_be_written_out() -> None:
    with pytest.raises(CompileError, match="bfloat"):
        run(PLACE + "bfloat v = 1.0f * inp[g]; out[g] = float(v);")
    rounded = run(PLACE + "out[g] = float(bfloat(inp[g] + 1.0f / 3));", dtype=mx.float32)
    assert (
        rounded == np.array((mx.arange(256).astype(mx.float32) + 1.0 / 3.0).astype(mx.bfloat16).astype(mx.float32))
    ).all()


def test_collectives() -> None:
    lanes = np.arange(256) % 32
    assert (run(LANE + "out[g] = simd_max(inp[g]);") == np.arange(256) // 32 * 32 + 31).all()
    assert (run(LANE + "out[g] = simd_shuffle_xor(inp[g], 5);") == np.arange(256) // 32 * 32 + (lanes ^ 5)).all()
    assert (run(LANE + "out[g] = simd_prefix_exclusive_sum(1.0f);") == lanes).all()
    assert (run(LANE + "out[g] = quad_sum(inp[g]);") == np.arange(256.0).reshape(64, 4).sum(1).repeat(4)).all()


def test_matrices_of_a_simdgroup() -> None:
    source = """simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
    simdgroup_load(a, inp, 8); simdgroup_load(b, inp + 64, 8, ulong2(0), true);
    simdgroup_multiply_accumulate(c, a, b, c); simdgroup_store(c, out, 8);
    for (uint i = 64 + thread_position_in_grid.x; i < 256; i += 32) out[i] = 0;"""
    a = np.arange(128.0).reshape(2, 8, 8)
    assert (run(source, count=32, group=32)[:64] == (a[0] @ a[1].T + 1).ravel()).all()


def test_traffic_is_exact() -> None:
    kernel = metal_kernel("counted", ["x", "w"], ["y"], LANE + "y[g] = x[lane] + w[g / 2];")
    with settings() as launches:
        kernel(
            inputs=[mx.zeros((32,)), mx.zeros((64,), mx.float16)],
            grid=(128, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[(128,)],
            output_dtypes=[mx.float32],
        )
    x, w, y = (launches[0].buffers[n] for n in "xwy")
    assert (x.asked, x.fetched, x.size) == (512, 512, 128)  # by each of four threadgroups
    assert (w.asked, w.fetched, w.size) == (256, 128, 128)  # two lanes share each, no two threadgroups do
    assert (y.written, y.asked) == (512, 0)


KINDS = (mx.float32, mx.float16, mx.bfloat16, mx.uint32, mx.int8, mx.uint64, mx.bool_)
TEMPLATES = (None, [("T", mx.bfloat16), ("N", 4), ("F", True)], [("N", -3)])
# with several outputs and no attribute at all MLX 0.32.4 writes text that does not compile
NAMED = ("thread_position_in_grid", "simdgroup_index_in_threadgroup threadgroup_position_in_grid")


@pytest.mark.parametrize(("dtype", "template"), list(itertools.product(KINDS, TEMPLATES)))
def test_the_kernel_text_is_that_of_mlx(dtype: mx.Dtype, template: list | None) -> None:
    """`_text` compares with what MLX writes, byte for byte, at every new signature."""
    for named, atomic in itertools.product(NAMED, (False, True)):
        source = f"/* {named} */ x_shape[0]; x_strides[0]; s_ndim; sc_shape; o1[0] = 0;"
        kernel = metal_kernel("texts", ["x", "s", "sc"], ["o1", "o2"], source, "// header\n", atomic_outputs=atomic)
        inputs = [mx.zeros((4, 8), dtype), mx.zeros((3,), dtype), mx.array(2.5)]
        call = {"output_shapes": [(1,), (2,)], "output_dtypes": [dtype, mx.float32], "template": template}
        assert kernel._text(inputs, {**call, "grid": (32, 1, 1), "threadgroup": (32, 1, 1), "init_value": None})


NAN = mx.where(mx.arange(256) % 3 == 0, mx.nan, mx.arange(256).astype(mx.float32))


@pytest.mark.parametrize(
    ("value", "agrees"),
    [
        ("metal::max(inp[g], 0.0f)", False),
        ("metal::min(7.0f, inp[g])", False),
        ("metal::clamp(inp[g], 0.0f, 7.0f)", False),
        ("simd_max(inp[g])", False),
        ("simd_min(inp[g])", False),
        ("float(metal::max(half(inp[g]), half(1)))", False),
        ("inp[g] < 0 ? 0 : inp[g]", True),
        ("metal::max(inp[g], inp[g])", True),
        ("metal::max(inp[g], 0.0f) + simd_sum(inp[g])", True),
    ],
)
def test_what_is_no_number_wins_and_loses(value: str, agrees: bool) -> None:
    kernel = metal_kernel("toy", ["inp"], ["out"], LANE + f"out[g] = {value};")
    how = {"grid": (256, 1, 1), "threadgroup": (64, 1, 1), "output_shapes": [(256,)], "output_dtypes": [mx.float32]}
    assert kernel(inputs=[mx.arange(256).astype(mx.float32)], **how)
    if agrees:
        kernel(inputs=[NAN], **how)
    else:
        with pytest.raises(KernelFault, match="out depends on what max or min of a number and NaN gives"):
            kernel(inputs=[NAN], **how)


@pytest.mark.parametrize("mode", [Mode.CHECKED, Mode.PLAIN])
def test_numbers_too_small_for_a_full_mantissa_are_zeros(mode: Mode) -> None:
    source = (
        PLACE + "out[g] = as_type<float>(0x400000u + uint(inp[g])) * 1e30f + 1e-20f * 1e-20f * (inp[g] + 1) * 1e30f;"
    )
    assert (run(source, mode=mode) == 0).all()
    assert np.float32(1e-20) * np.float32(1e-20) > 0  # only there


def test_buffers_begin_past_a_page_by_an_element_or_by_what_is_asked() -> None:
    source = PLACE + "float2 v = *(const device float2*)(inp + 2 * (g & 63)); out[g] = v.x + v.y;"
    how = {"grid": (256, 1, 1), "threadgroup": (64, 1, 1), "output_shapes": [(256,)], "output_dtypes": [mx.float32]}
    inputs = [mx.arange(256).astype(mx.float32)]
    with pytest.raises(KernelFault, match="not aligned to its size"):
        metal_kernel("toy", ["inp"], ["out"], source)(inputs=inputs, **how)
    (y,) = metal_kernel("toy", ["inp"], ["out"], source, aligned={"inp": 8})(inputs=inputs, **how)
    assert y.tolist()[:2] == [1, 5]


def test_a_threadgroup_that_a_pipeline_might_not_take_is_refused() -> None:
    run(PLACE + "out[g] = inp[g];", group=256)
    with pytest.raises(ValueError, match="A threadgroup of 544 threads; the limit is 512"):
        run(PLACE + "if (g < 256) out[g] = inp[g];", count=544, group=544)
