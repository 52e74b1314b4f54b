"""Which kernel serves a call of `mlxrun.ops.metal`, in which cut, and which calls are left to MLX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import ScoreRule
from mlxrun.metal_kernels.tiles import CUTS, STANDARD

from mlxrun.ops import choose, metal
from mlxrun.ops.fused import Rms, Rotation
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import Router
from tests.macs import MACS, become

from . import made
from .recorded import Call, recorded

F16, F32 = mx.float16, mx.float32
AFFINE, SIXTEENS = ("affine", 4, 32), ("affine", 2, 16)


def weight(shape: tuple[int, ...], form: tuple[str, int, int] = AFFINE, dtype: mx.Dtype = F16) -> QuantizedWeight:
    w = made.weight(shape, form, dtype)
    return QuantizedWeight(w.packed, w.scales, w.biases, w.mode, w.bits, w.group)  # type: ignore[arg-type]  # one of its modes


def ones(*shape: int, dtype: mx.Dtype = F16) -> mx.array:
    return mx.ones(shape, dtype)


@pytest.fixture
def chooser() -> choose.Chooser:
    return choose.Chooser("ours")


def served(run: Callable[[], object]) -> tuple[Any, list[Call]]:
    found: list[Any] = []
    calls = recorded(lambda: found.append(run()))
    return found[0], calls


def kernels(run: Callable[[], object]) -> list[str]:
    answer, calls = served(run)
    assert (answer is None) == (not calls)
    return [call.kernel for call in calls]


def test_a_refusal_is_said_as_it_is_told(chooser: choose.Chooser, caplog: pytest.LogCaptureFixture) -> None:
    chooser.refuse("a product", "wide", "no room")
    assert [record.getMessage() for record in caplog.records] == [*chooser.told()]


def test_a_layout_that_only_we_know_is_run_in_the_first_cut_until_it_is_refused() -> None:
    tried: list[object] = []

    def refused(cut: object) -> None:
        tried.append(cut)
        raise launch.KernelRefused("no room")

    chooser = choose.Chooser("mlx")
    for _ in range(2):
        assert chooser.run("a product", refused, only=True) is None
    assert tried == [CUTS[choose.OURS[0]]]
    assert chooser.told() == (choose.refusal("a product", choose.OURS[0], "no room"),)


def test_the_cuts_that_are_measured_against_each_other() -> None:
    """Written out, so that a change is seen: vector, few, matrix, experts, attention."""
    assert {name: astuple(cut) for name, cut in CUTS.items()} == {
        "standard": ((4, 2, False), (2, 4, False), (32, 32, False), (2, 2, False), (4, 8, 1)),
        "wide": ((8, 2, False), (4, 4, False), (64, 32, False), (4, 2, False), (4, 8, 8)),
        "bits": ((4, 2, True), (2, 4, True), (32, 32, True), (2, 2, True), (4, 8, 1)),
    }


@pytest.mark.parametrize(
    ("rows", "kernel"), [(1, "qmv"), (4, "qmv"), (5, "qmv_few"), (16, "qmv_few"), (17, "qmm"), (70, "qmm")]
)
def test_a_product_is_served_by_its_number_of_rows(rows: int, kernel: str, chooser: choose.Chooser) -> None:
    w = weight((40, 64))
    y, calls = served(lambda: metal.matmul(ones(rows, 64), w, chooser))
    assert [call.kernel for call in calls] == [kernel]
    assert (y.shape, y.dtype) == ((rows, 40), F16)
    y, _ = served(lambda: metal.matmul(ones(2, rows, 1, 64), w, chooser))
    assert y.shape == (2, rows, 1, 40)


@pytest.mark.parametrize("inner", [16, 48, 80])
@pytest.mark.parametrize("rows", [1, 4, 5, 17])
def test_more_rows_than_a_vector_kernel_takes_want_whole_blocks_of_32(
    inner: int, rows: int, chooser: choose.Chooser
) -> None:
    """Groups of 16 come in odd numbers; the kernels for many rows read 32 inputs at a time."""
    w = weight((40, inner), ("nvfp4", 4, 16))
    assert kernels(lambda: metal.matmul(ones(rows, inner), w, chooser)) == ([] if rows > 4 else ["qmv"])
    stack = weight((3, 40, inner), ("nvfp4", 4, 16))
    assert kernels(lambda: metal.expert_rows(ones(rows, inner), stack, mx.zeros(rows, mx.int32), chooser)) == []


def test_experts_rows_take_any_number_of_rows(chooser: choose.Chooser) -> None:
    stack, ids = weight((3, 40, 64)), mx.array([0, 1, 1, 2])
    y, (call,) = served(lambda: metal.expert_rows(ones(4, 64), stack, ids, chooser))
    assert (call.kernel, call.template["SORTED"], y.shape) == ("qmm", True, (4, 40))
    assert mx.array_equal(call.inputs[4], ids)
    assert call.inputs[4].dtype == mx.uint32
    assert kernels(lambda: metal.expert_rows(ones(0, 64), stack, ids[:0], chooser)) == []


def test_nothing_is_made_of_no_rows(chooser: choose.Chooser) -> None:
    assert kernels(lambda: metal.matmul(ones(0, 64), weight((40, 64)), chooser)) == []


def test_what_mlx_does_not_know_is_ours_unasked_and_in_the_type_of_its_scales(chooser: choose.Chooser) -> None:
    chooser.policy = "auto"
    asked: dict[str, None] = {}
    chooser.asked = asked
    w, stack = weight((40, 64), SIXTEENS), weight((2, 40, 64), SIXTEENS)
    try:
        for x in (ones(3, 64), ones(3, 64, dtype=F32)):
            for run in (
                lambda x=x: metal.matmul(x, w, chooser),
                lambda x=x: metal.expert_rows(x, stack, mx.zeros(3, mx.int32), chooser),
            ):
                y, (call,) = served(run)
                assert (y.dtype, call.inputs[0].dtype) == (F16, F16)
        assert not asked
        assert kernels(lambda: metal.matmul(ones(3, 64), weight((40, 64)), chooser)) == []
        assert len(asked) == 1
        for op in (lambda: metal.add_matmul(ones(3, 64), w, ones(3, 40), None, chooser),):
            assert kernels(op) == []
        assert len(asked) == 2
    finally:
        chooser.asked = None


@pytest.mark.parametrize("policy", ["auto", "mlx", "ours"])
def test_a_policy(policy: choose.Policy, chooser: choose.Chooser) -> None:
    x, w = ones(3, 64), weight((40, 64))
    key = "matmul 3 40x64 affine-4-32 float16"
    assert choose.key("matmul", 3, w, dtype=F16) == key
    chooser.policy = policy
    for pick in (None, "mlx", "standard", "wide", "bits", "unheard of"):
        chooser.picks = {} if pick is None else {key: pick}
        _, calls = served(lambda: metal.matmul(x, w, chooser))
        cut = CUTS.get(str(pick)) if policy == "auto" else STANDARD if policy == "ours" else None
        assert [c.template["ROWS"] for c in calls] == ([cut.vector.rows] if cut else [])
        assert [c.template["BITCAST"] for c in calls] == ([cut.vector.bitcast] if cut else [])


def test_a_chooser_knows_its_own_picks_alone() -> None:
    one, other = choose.Chooser("auto", {"a": "wide"}), choose.Chooser()
    assert one.ours("a") is CUTS["wide"]
    assert (one.ours("b"), other.ours("a")) == (None, None)
    assert choose.Chooser("mlx", {"a": "wide"}).ours("a") is None
    assert choose.Chooser("ours").ours("a") is STANDARD


def test_whether_a_kernel_may_run_at_all(chooser: choose.Chooser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chooser.possible()  # the simulator makes them
    chooser.policy = "mlx"
    assert not chooser.possible()
    chooser.policy = "auto"
    monkeypatch.setattr(launch.library, "make", mx.fast.metal_kernel)
    for each in MACS.values():
        become(monkeypatch, each)
        assert chooser.possible() == each.usable


def test_who_wants_to_know_hears_which_keys_were_asked_for(chooser: choose.Chooser) -> None:
    chooser.asked = {}
    try:
        chooser.ours("b"), chooser.ours("a"), chooser.ours("b")
        assert list(chooser.asked) == ["b", "a"]
    finally:
        chooser.asked = None


@pytest.mark.parametrize(
    ("rows", "told"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16), (17, 64), (999, 64)]
)
def test_rows_are_told_apart_up_to_64(rows: int, told: int) -> None:
    assert choose.rows_class(rows) == told


def test_a_key_names_all_that_decides_speed() -> None:
    first, second = weight((40, 64)), weight((3, 24, 96), ("mxfp4", 4, 32))
    assert choose.key("op", 5, first, second, dtype=mx.bfloat16) == "op 8 40x64+3x24x96 affine-4-32 bfloat16"
    assert choose.key("op", 1, second, dtype=F32) == "op 1 3x24x96 mxfp4-4-32 float32"
    assert choose.key("op", 1, weight((8, 64), ("affine", 8, 32)), dtype=F32) == "op 1 8x64 affine-8-32 float32"


def rms(width: int) -> Rms:
    return Rms(ones(width), 1e-5)


def layers(chooser: choose.Chooser) -> dict[str, Callable[[int], object]]:
    """Every operation that takes a few rows, by name."""
    q, k, narrow = weight((64, 64)), weight((32, 64)), weight((40, 64))
    down, head = weight((64, 32)), weight((90, 64))
    stacks = weight((3, 32, 64)), weight((3, 32, 64)), weight((3, 64, 32))
    mixture = metal.MetalExperts(rms(64), mx.ones((3, 64)), *stacks, Router(2, "softmax", True), None, "silu", chooser)
    row_of = lambda n: mx.zeros(n, mx.int32)  # noqa: E731 a word for three places
    fronts = metal.MetalHeads(rms(64), (q, k, k), None, 16, None, chooser)
    return {
        "add": lambda n: metal.add_matmul(ones(n, 64), narrow, ones(n, 40), None, chooser),
        "heads": lambda n: fronts(ones(n, 64), Rotation(mx.ones(4), row_of(n), False, 1.0), row_of(n)),
        "feed": lambda n: metal.MetalFeedForward(rms(64), k, k, down, "silu", chooser)(ones(n, 64), ones(n, 64)),
        "experts": lambda n: mixture(ones(n, 64)),
        "best": lambda n: metal.best_token(ones(n, 64), rms(64), head, chooser),
    }


LAUNCHES = {
    "add": ["qmv"],
    "heads": ["project", "heads"],
    "feed": ["experts_in", "qmv"],
    "experts": ["router_logits", "router", "experts_in", "experts_out"],
    "best": ["greedy", "best"],
}


@pytest.mark.parametrize("op", LAUNCHES)
def test_up_to_four_rows_are_served(op: str, chooser: choose.Chooser) -> None:
    run = layers(chooser)[op]
    for rows in (1, 4):
        assert kernels(lambda rows=rows: run(rows)) == LAUNCHES[op]
    assert kernels(lambda: run(5)) == []
    chooser.asked = {}
    try:
        run(4)
        assert [key.split()[:2] for key in chooser.asked] == [[op, "4"]]
    finally:
        chooser.asked = None
    chooser.policy = "auto"
    assert kernels(lambda: run(1)) == []


def test_a_layer_hands_each_part_to_its_place(chooser: choose.Chooser) -> None:
    """Gate before up, each with its own bias; the norm's weight and eps; what is added at the end."""
    x, y, norm = ones(2, 64) * 5, ones(2, 64) * 2, Rms(ones(64) * 3, 0.25)

    def unlike(*shape: int) -> tuple[QuantizedWeight, QuantizedWeight]:
        return (one := weight(shape)), replace(one, packed=one.packed + 1)

    def places(call: Call, *arrays: mx.array) -> list[int]:
        same = [[at for at, one in enumerate(call.inputs) if mx.array_equal(one, array)] for array in arrays]
        return [found[0] for found in same]

    def in_order(call: Call, *arrays: mx.array) -> bool:
        return (found := places(call, *arrays)) == sorted(set(found))

    eps, (gate, up), down = mx.array([0.25]), unlike(32, 64), weight((64, 32))
    _, (into, out) = served(lambda: metal.MetalFeedForward(norm, gate, up, down, "silu", chooser)(y, x))
    assert in_order(into, x, gate.packed[None], up.packed[None])
    assert places(into, norm.weight, eps)
    assert in_order(out, down.packed, y)
    (gate, up), down, bias, select = unlike(3, 32, 64), weight((3, 64, 32)), mx.ones(3) * 7, mx.ones(3) * 8
    router, biases = mx.ones((3, 64)), (ones(3, 32), ones(3, 32) * 2, ones(3, 64) * 4)
    rule = Router(2, "softmax", True)
    mixture = metal.MetalExperts(norm, router, gate, up, down, rule, select, "silu", chooser, bias, biases)
    _, (logits, routed, into, out) = served(lambda: mixture(x))
    assert places(logits, x, norm.weight, eps, router, bias)
    assert places(routed, select)
    assert in_order(into, gate.packed, up.packed)
    assert in_order(into, *biases[:2])
    assert places(into, x, norm.weight, eps)
    assert places(out, down.packed, biases[2], x)
    fronts = metal.MetalHeads(norm, (weight((48, 64)), weight((32, 64)), weight((32, 64))), None, 16, None, chooser)
    (q, k, v), _ = served(lambda: fronts(x, None, mx.zeros(2, mx.int32)))
    assert (q.shape, k.shape, v.shape) == ((2, 3, 16), (2, 2, 16), (2, 2, 16))


def test_a_sum_is_served_in_one_type(chooser: choose.Chooser) -> None:
    x, w, bias = ones(2, 64), weight((40, 64)), ones(40) * 3
    residual = ones(2, 40)
    _, (call,) = served(lambda: metal.add_matmul(x, w, residual, None, chooser))
    assert mx.array_equal(call.inputs[4], residual)
    _, (call,) = served(lambda: metal.add_matmul(x, w, residual, bias, chooser))
    assert mx.array_equal(call.inputs[4], residual + bias)
    assert kernels(lambda: metal.add_matmul(x, w, ones(2, 40, dtype=F32), None, chooser)) == []


def test_types_and_formats_that_no_kernel_has_are_left_alone(chooser: choose.Chooser) -> None:
    assert kernels(lambda: metal.matmul(ones(1, 64, dtype=mx.int32), weight((40, 64)), chooser)) == []
    assert (
        kernels(lambda: metal.matmul(ones(1, 64, dtype=F32), weight((40, 64)), chooser)) == []
    )  # scales of another type
    assert kernels(lambda: metal.matmul(ones(1, 64), weight((40, 64), ("affine", 5, 32)), chooser)) == []
    assert kernels(lambda: metal.matmul(ones(1, 32), weight((7, 32)), chooser)) == []  # 7 groups are too small an input
    assert kernels(lambda: metal.matmul(ones(1, 32), weight((8, 32)), chooser)) == ["qmv"]


def test_layers_of_unlike_matrices_are_left_alone(chooser: choose.Chooser) -> None:
    up, other, down = weight((32, 64)), weight((32, 64), ("mxfp4", 4, 32)), weight((64, 32))
    x = ones(1, 64)
    assert kernels(lambda: metal.MetalFeedForward(rms(64), up, other, down, "silu", chooser)(x, x)) == []
    assert kernels(lambda: metal.MetalFeedForward(rms(64), up, up, down, "relu2", chooser)(x, x)) == []
    stack, unlike = weight((3, 32, 64)), weight((3, 32, 64), ("mxfp4", 4, 32))
    last, router = weight((3, 64, 32)), Router(2, "softmax", True)
    for gate, by in ((unlike, mx.ones((3, 64))), (stack, weight((3, 64), ("affine", 5, 32)))):
        mixture = metal.MetalExperts(rms(64), by, gate, stack, last, router, None, "silu", chooser)
        assert kernels(lambda mixture=mixture: mixture(x)) == []
    mixture = metal.MetalExperts(rms(64), weight((8, 64)), stack, stack, last, router, None, "silu", chooser)
    assert kernels(lambda: mixture(x)) == ["project", "router", "experts_in", "experts_out"]


def over(
    chooser: choose.Chooser, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...] | int, **how: Any
) -> Callable[[], Any]:
    types = how.get("types", (F16,) * 3)
    values = v if isinstance(v, int) else ones(*v, dtype=types[2])
    keys, sight = ones(*k, dtype=types[1]), ScoreRule(0.5, softcap=how.get("softcap", 0.0))
    return lambda: metal.attention(ones(*q, dtype=types[0]), keys, values, how.get("count", 5), sight, chooser)


@pytest.mark.parametrize(
    ("size", "good"),
    [(63, False), (64, True), (256, True), (257, False)],
)
def test_heads_of_64_to_256_values_are_attended(size: int, good: bool, chooser: choose.Chooser) -> None:
    buffer = (1, 2, 9, size)
    assert bool(kernels(over(chooser, (1, 4, 1, size), buffer, buffer))) == good
    assert bool(kernels(over(chooser, (1, 4, 1, 64), (1, 2, 9, 64), buffer))) == good


@pytest.mark.parametrize(
    ("size", "width", "good"), [(1024, 512, True), (1025, 8, False), (64, 8, True), (64, 7, False)]
)
def test_latent_heads_of_8_to_1024_values_are_attended(
    size: int, width: int, good: bool, chooser: choose.Chooser
) -> None:
    assert bool(kernels(over(chooser, (1, 4, 1, size), (1, 1, 9, size), width))) == good


def test_one_query_of_one_sequence_is_attended_in_one_type(chooser: choose.Chooser) -> None:
    buffer = (1, 2, 9, 64)
    y, (call,) = served(over(chooser, (1, 4, 1, 64), buffer, buffer))
    assert y.shape == (1, 4, 1, 64)
    assert (call.template["SHARED"], call.template["WINDOW"], call.template["SINKS"]) == (False, 0, False)
    assert [a.tolist() for a in call.inputs[7:9]] == [[[0]], [5]]
    assert kernels(over(chooser, (2, 4, 1, 64), (2, 2, 9, 64), (2, 2, 9, 64))) == []
    assert kernels(over(chooser, (1, 4, 2, 64), buffer, buffer)) == []
    for types in ((F32, F16, F16), (F16, F32, F16), (F16, F16, F32), (mx.int32,) * 3):
        assert kernels(over(chooser, (1, 4, 1, 64), buffer, buffer, types=types)) == []
    y, (call,) = served(over(chooser, (1, 4, 1, 64), (1, 1, 9, 64), 24))
    assert (y.shape, call.template["SHARED"], call.template["DV"]) == ((1, 4, 1, 24), True, 24)


@pytest.mark.parametrize(("count", "told"), [(1, 256), (256, 256), (257, 512), (512, 512), (513, 1024)])
def test_attention_is_measured_by_powers_of_two_of_keys(count: int, told: int, chooser: choose.Chooser) -> None:
    buffer, asked = (1, 2, 600, 64), dict[str, None]()
    chooser.asked = asked
    try:
        assert kernels(over(chooser, (1, 4, 1, 64), buffer, (1, 2, 600, 128), count=count))
        assert kernels(over(chooser, (1, 4, 1, 64), (1, 1, 600, 64), 24, count=count))
        capped = over(chooser, (1, 4, 1, 64), buffer, buffer, count=count, softcap=5.0)
        assert kernels(capped)
    finally:
        chooser.asked = None
    assert list(asked) == [
        f"attention {told} 4x2x64x128 float16",
        f"latent {told} 4x1x64x24 float16",
        f"capped {told} 4x2x64x64 float16",
    ]
    chooser.policy = "mlx"
    assert kernels(capped) == []
