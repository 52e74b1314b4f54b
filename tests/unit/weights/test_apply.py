"""Rules on arrays against NumPy, and on quantized weights against the same rules on what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from weight_files import one_sentence, values_of

from mlxrun.families.rules import (
    Drop,
    Flatten,
    Join,
    Map,
    Rename,
    Rule,
    Shuffle,
    Split,
    Squeeze,
    Stack,
    Transpose,
    Unflatten,
    Unzip,
)
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.spec import ModelError
from mlxrun.weights import apply_rules


def quantized(w: np.ndarray, mode: str = "affine", bits: int = 4, group: int = 32) -> QuantizedWeight:
    made = mx.quantize(mx.array(w), group_size=group, bits=bits, mode=mode)
    return QuantizedWeight(made[0], made[1], made[2] if mode == "affine" else None, mode, bits, group)


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def run(rules: Sequence[Rule], **arrays: Any) -> dict[str, np.ndarray]:
    made = apply_rules(rules, {n: w if isinstance(w, QuantizedWeight) else mx.array(w) for n, w in arrays.items()})
    return {name: values_of(weight) for name, weight in made.items()}


def refused(rules: Sequence[Rule], tensors: dict[str, Weight], words: str) -> None:
    with pytest.raises(ModelError) as error:
        apply_rules(rules, tensors)
    assert words in one_sentence(error.value)


def same(found: dict[str, np.ndarray], **expected: np.ndarray) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name


def test_a_tensor_flows_down_the_whole_list() -> None:
    rules = (Rename("^model\\.", ""), Rename("^h\\.(\\d+)", r"layers.\1"), Rename("attn", "mixer"), Drop("inv_freq$"))
    tensors = {"model.h.3.attn.q.weight": mx.ones(2), "model.h.3.inv_freq": mx.ones(3)}
    assert list(apply_rules(rules, tensors)) == ["layers.3.mixer.q.weight"]


def test_names_may_change_places_on_the_way() -> None:
    made = run((Rename("^a$", "c"), Rename("^b$", "a"), Rename("^c$", "b")), a=rows(2), b=rows(3))
    assert {name: w.shape for name, w in made.items()} == {"b": (2,), "a": (3,)}


def test_what_no_rule_matches_is_an_error() -> None:
    tensors: dict[str, Weight] = {f"extra.{i}": mx.ones(1) for i in range(7)} | {"a": mx.ones(1)}
    refused((Rename("^a$", "b"),), tensors, "has 7 tensors that this model does not know: 'extra.0', 'extra.1'")
    refused((), {"x": mx.ones(1)}, "'x'.")


def test_two_tensors_for_one_weight() -> None:
    refused((Rename("a|b", "c"),), {"a": mx.ones(1), "b": mx.ones(1)}, "'a' and 'b' are both the weight c")


def test_split() -> None:
    w = rows(12, 32)
    same(run((Split("^w$", ("a", "b", "c")),), w=w), a=w[:4], b=w[4:8], c=w[8:])
    same(run((Split("^w$", ("a", "b"), (9, 3)),), w=w), a=w[:9], b=w[9:])
    same(run((Split("^w$", ("a", "b"), axis=-1),), w=w), a=w[:, :16], b=w[:, 16:])
    same(
        run((Split("w\\.(weight|bias)$", (r"a.\1", r"b.\1")),), **{"w.bias": w[:, 0]}),
        **{"a.bias": w[:6, 0], "b.bias": w[6:, 0]},
    )


def test_split_in_groups_and_parts_that_are_joined() -> None:
    w = rows(12, 32)
    heads = w.reshape(2, 6, 32)
    same(
        run((Split("^w$", ("q", "k", "v"), (2, 2, 2), groups=2),), w=w),
        q=heads[:, :2].reshape(4, 32),
        k=heads[:, 2:4].reshape(4, 32),
        v=heads[:, 4:].reshape(4, 32),
    )
    same(
        run((Split("^w$", ("x", "z", "x"), (1, 2, 3), groups=2),), w=w),
        x=np.concatenate([heads[:, :1].reshape(2, 32), heads[:, 3:].reshape(6, 32)]),
        z=heads[:, 1:3].reshape(4, 32),
    )
    same(
        run((Split("^w$", ("a", "b"), groups=3),), w=w),
        a=w.reshape(3, 2, 2, 32)[:, 0].reshape(6, 32),
        b=w.reshape(3, 2, 2, 32)[:, 1].reshape(6, 32),
    )


def test_split_and_unzip_rows_of_a_stack() -> None:
    w = rows(3, 8, 32)
    same(run((Split("^w$", ("a", "b"), axis=-2),), w=w), a=w[:, :4], b=w[:, 4:])
    same(run((Unzip("^w$", ("a", "b"), axis=-2),), w=w), a=w[:, 0::2], b=w[:, 1::2])
    same(run((Unzip("^w$", ("a", "b"), axis=-1),), w=w), a=w[..., 0::2], b=w[..., 1::2])
    same(run((Unzip("^w$", ("a", "b")),), w=w[0]), a=w[0, 0::2], b=w[0, 1::2])


def test_stack() -> None:
    w = rows(11, 4, 32)
    names = {f"layers.0.experts.{e}.up.weight": w[e] for e in reversed(range(11))}
    rule = Stack(r"experts\.(?P<e>\d+)\.(?P<part>up|down)\.", r"all.\g<part>.")
    same(run((rule, Rename("all", "experts")), **names), **{"layers.0.experts.up.weight": w})


def test_stack_wants_every_expert_once() -> None:
    rule = Stack(r"^e\.(?P<e>\d+)$", "e")
    one = mx.ones((2, 32))
    refused((rule,), {"e.0": one, "e.2": one}, "Expert 1 of e is missing")
    refused((rule,), {"e.1": one}, "Expert 0 of e is missing")
    refused((rule,), {"e.0": one, "e.00": one}, "both expert 0")
    refused((rule,), {"e.0": one, "e.9999999999999999999999": one}, "Expert 1 of e is missing")
    refused((rule,), {"e.0": one, "e." + "9" * 5000: one}, "Expert 1 of e is missing")
    refused((rule,), {"e.0": one, "e.1": mx.ones((3, 32))}, "'e.1' has shape (3, 32)")
    refused((rule,), {"e.0": one, "e.1": one.astype(mx.float16)}, "one type")
    q4, q8 = quantized(np.ones((2, 32), np.float32)), quantized(np.ones((2, 32), np.float32), bits=8)
    refused((rule,), {"e.0": q4, "e.1": q8}, "quantized in one way")
    refused((rule,), {"e.0": q4, "e.1": one}, "quantized in one way")


def test_join() -> None:
    q, k, v = rows(2, 4), rows(5, 4), rows(1, 4)
    rule = Join(r"(?P<part>[qkv])_conv\.", "conv.", ("q", "k", "v"))
    joined = np.concatenate([q, k, v])
    same(run((rule, Rename("^x", "y")), **{"x.v_conv.w": v, "x.q_conv.w": q, "x.k_conv.w": k}), **{"y.conv.w": joined})


def test_join_wants_every_part_once() -> None:
    rule = Join(r"^(?P<part>[qk])\d*$", "conv", ("q", "k"))
    one = mx.ones((2, 32))
    refused((rule,), {"q": one}, "Part 'k' of conv is missing")
    refused((rule,), {"q": one, "q1": one, "k": one}, "both part 'q' of conv")
    refused((rule,), {"q": one, "k": mx.ones((2, 31))}, "one width and type")
    refused((rule,), {"q": one, "k": one.astype(mx.float16)}, "one width and type")
    refused((rule,), {"q": one, "k": quantized(np.ones((2, 32), np.float32))}, "cannot be joined")


def test_transpose_squeeze_unflatten_map() -> None:
    w = rows(2, 3, 4)
    same(run((Transpose("^w$", "t"),), w=w), t=w.swapaxes(1, 2))
    same(run((Squeeze("^w$", "s"),), w=rows(5, 1, 3)), s=rows(5, 1, 3)[:, 0])
    same(run((Squeeze("^w$", "s"),), w=rows(5, 3, 1)), s=rows(5, 3, 1)[..., 0])
    same(run((Squeeze("^w$", "s"),), w=rows(1, 3)), s=rows(1, 3))
    same(run((Flatten("^w$", "f"),), w=rows(1, 3)), f=rows(1, 3)[0])
    same(run((Unflatten("^w$", "u", 3),), w=rows(6, 4)), u=rows(6, 4).reshape(3, 2, 4))
    parts = np.split(w, (1, 2), axis=1)
    same(
        run((Shuffle("^w$", "m", (1, 1, 1), (2, 0, 1), axis=1),), w=w),
        m=np.concatenate([parts[i] for i in (2, 0, 1)], 1),
    )
    same(run((Map("^w$", ("a", "b"), lambda w: (w[0], w[1] * 2)),), w=w), a=w[0], b=w[1] * 2)


@pytest.mark.parametrize(
    ("rule", "shape", "words"),
    [
        (Split("w", ("a", "b", "c")), (8, 32), "8 rows"),
        (Split("w", ("a", "b"), (3, 4)), (8, 32), "this model needs 7"),
        (Split("w", ("a", "b"), (2, 2), groups=3), (8, 32), "this model needs 12"),
        (Split("w", ("a", "b"), axis=-2), (8,), "no axis -2"),
        (Unzip("w", ("a", "b"), axis=1), (8,), "no axis 1"),
        (Transpose("w", "a"), (8,), "too few axes"),
        (Squeeze("w", "a"), (), "too few axes"),
        (Unflatten("w", "a", 3), (8, 32), "not 3 groups"),
        (Shuffle("w", "a", (3, 3), (1, 0)), (8, 32), "this model needs 6"),
        (Shuffle("w", "a", (3, 3), (1, 0), axis=1), (8,), "along axis 1"),
        (Map("w", ("a",), lambda w: (w.reshape(3, 5),)), (8, 32), "does not have the shape"),
    ],
)
def test_shapes_that_a_rule_cannot_cut(rule: Rule, shape: tuple[int, ...], words: str) -> None:
    refused((rule,), {"w": mx.ones(shape)}, words)


# ---- quantized ----------------------------------------------------------------------------------

LAYOUTS = [("affine", 4, 32), ("affine", 3, 64), ("affine", 6, 32), ("affine", 8, 128), ("mxfp4", 4, 32)]
LAYOUTS += [("mxfp8", 8, 32), ("nvfp4", 4, 16)]
ROW_RULES: dict[str, tuple[Rule, ...]] = {
    "rename": (Rename("w", "a"),),
    "split": (Split("w", ("a", "b", "c")),),
    "split in groups, joined": (Split("w", ("a", "b", "a"), (1, 2, 1), groups=3),),
    "unzip": (Unzip("w", ("a", "b")),),
    "unflatten": (Unflatten("w", "a", 4),),
    "shuffle": (Shuffle("w", "a", (2, 4, 6), (1, 2, 0)),),
    "shuffle columns": (Shuffle("w", "a", (128, 128), (1, 0), axis=-1),),
    "one after the other": (Split("w", ("a", "b")), Unzip("^a$", ("c", "d")), Unflatten("^b$", "e", 2)),
}


@pytest.mark.parametrize("what", ROW_RULES)
@pytest.mark.parametrize(("mode", "bits", "group"), LAYOUTS)
def test_rows_of_a_quantized_weight_are_moved_without_loss(what: str, mode: str, bits: int, group: int) -> None:
    q = quantized(rows(12, 256), mode, bits, group)
    same(run(ROW_RULES[what], w=q), **run(ROW_RULES[what], w=values_of(q)))


@pytest.mark.parametrize(("mode", "bits", "group"), LAYOUTS)
def test_stacks_of_quantized_experts(mode: str, bits: int, group: int) -> None:
    experts = {f"e.{i}.up": quantized(rows(8, 256) * (i + 1), mode, bits, group) for i in range(3)}
    rules = (
        Stack(r"e\.(?P<e>\d+)\.", "all."),
        Split(r"^all\.up$", ("gate", "both"), (2, 6), axis=-2),
        Unzip("both", ("even", "odd"), axis=-2),
    )
    found = run(rules, **experts)
    same(found, **run(rules, **{name: values_of(q) for name, q in experts.items()}))
    assert found["even"].shape == (3, 3, 256)


@pytest.mark.parametrize(
    "rule",
    [
        Split("w", ("a", "b"), axis=-1),
        Split("w", ("a", "b"), axis=1),
        Unzip("w", ("a", "b"), axis=-1),
        Transpose("w", "a"),
        Squeeze("w", "a"),
        Flatten("w", "a"),
        Map("w", ("a",), lambda w: (w,)),
    ],
)
def test_the_packed_axis_is_not_touched(rule: Rule) -> None:
    refused((rule,), {"w": quantized(rows(4, 64))}, "is quantized")


def test_columns_within_a_group_are_not_moved() -> None:
    rule = Shuffle("w", "a", (16, 48), (1, 0), axis=-1)
    refused((rule,), {"w": quantized(rows(4, 64))}, "groups of 32, which its heads do not divide into")


def test_rules_stay_lazy() -> None:
    raw = mx.array(rows(64, 2048))
    mx.eval(raw)
    before = mx.get_active_memory()
    tensors = {f"e.{i}": raw + i for i in range(8)}
    made = apply_rules((Stack(r"^e\.(?P<e>\d+)$", "e"), Unzip("^e$", ("a", "b"), axis=-2)), tensors)
    assert mx.get_active_memory() - before < 1000
    assert made["a"].shape == (8, 32, 2048)


def test_cut_rows_lie_one_after_the_other() -> None:
    """Else they would be copied whenever they are used."""
    made = apply_rules((Unzip("w", ("a", "b"), axis=-2),), {"w": mx.array(rows(3, 8, 32))})
    view = np.from_dlpack(made["a"])
    assert view.flags["C_CONTIGUOUS"]
