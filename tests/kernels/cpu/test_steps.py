"""Each step of a stack of layers by itself, at odd widths, against float64; of few rows and of so many that all cores
help. A row has the same bits among many as alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import oracle

WIDTH, EXTRA, EXACT = 40, 24, 0
ROWS = (1, 7, 700)
random = np.random.default_rng(5)


def drawn(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32).astype(np.float64)


def given(values: np.ndarray | None) -> mx.array | None:
    return None if values is None else mx.array(values.astype(np.float32))


def packed(values: np.ndarray) -> Any:
    return native.pack_plain(mx.array(values.astype(np.float32)))


def rows_of(stack: Any, x: np.ndarray, extra: np.ndarray) -> np.ndarray:
    return np.array(stack(given(x), given(extra), [], [], [], [], EXACT)[0])


Rows = dict[str, np.ndarray]


def check(add: Callable[[Any], None], expected: Callable[[Rows], np.ndarray], out: str = "to", what: str = "") -> None:
    for count in ROWS:
        stack, x, extra = native.Stack(WIDTH, EXTRA, out), drawn(count, WIDTH), drawn(count, EXTRA)
        add(stack)
        found = rows_of(stack, x, extra)
        wanted = expected({"x": x, "extra": extra})
        np.testing.assert_allclose(
            found, wanted, rtol=1e-5, atol=2e-6 * abs(wanted).max(), err_msg=f"{what}, {count} rows"
        )
        for r in {0, count // 2, count - 1}:
            alone = rows_of(stack, x[r : r + 1], extra[r : r + 1])
            assert np.array_equal(found[r].view(np.uint32), alone[0].view(np.uint32)), f"{what}: row {r} of {count}"


def normed(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None = None, centred: bool = False
) -> np.ndarray:
    near = oracle.known(x)
    return (oracle.layer_norm(near, weight, bias, 1e-3) if centred else oracle.rms_norm(near, weight, 1e-3)).value


def row_norm(weight: np.ndarray | None, bias: np.ndarray | None = None, centred: bool = False) -> Any:
    return native.RowNorm(given(weight), given(bias), 1e-3, centred)


NORMS = [None, (None, None, False), (drawn(WIDTH), None, False), (drawn(WIDTH), drawn(WIDTH), True), (None, None, True)]


@pytest.mark.parametrize("norm", NORMS, ids=["none", "plain", "rms", "layer", "centred"])
@pytest.mark.parametrize("to", ["x", "to"])
def test_sums_and_norms(norm: tuple[Any, Any, bool] | None, to: str) -> None:
    for onto, factor, scale in itertools.product((None, "x", "twice"), (1.0, 0.75), (None, 1.5)):

        def add(stack: Any, onto: Any = onto, factor: float = factor, scale: float | None = scale) -> None:
            stack.combine("x", "twice", factor=2.0)
            stack.combine(
                "x", to, row_norm(*norm) if norm else None, onto, factor, None if scale is None else mx.array([scale])
            )

        def expected(rows: Rows, onto: Any = onto, factor: float = factor, scale: float | None = scale) -> np.ndarray:
            x = rows["x"]
            below = {None: 0, "x": x, "twice": 2 * x}[onto]
            return below + factor * (scale or 1) * (normed(x, *norm) if norm else x)

        check(add, expected, to, f"onto {onto}, factor {factor}, scale {scale}")


W1, W2, B1, NORM = drawn(33, WIDTH), drawn(WIDTH, WIDTH), drawn(33), drawn(WIDTH)


@pytest.mark.parametrize("norm", [False, True])
def test_products(norm: bool) -> None:
    on_the_way = row_norm(NORM) if norm else None

    def source(rows: Rows) -> np.ndarray:
        return normed(rows["x"], NORM) if norm else rows["x"]

    def several(stack: Any) -> None:
        stack.project("x", [packed(W1), packed(W2)], [given(B1), None], ["to", "other"], norm=on_the_way)

    check(several, lambda rows: source(rows) @ W1.T + B1)
    check(several, lambda rows: source(rows) @ W2.T, "other")

    def onto(stack: Any) -> None:
        stack.combine("x", "twice", factor=2.0)
        stack.project("x", [packed(W2)], [None], ["to"], "twice", on_the_way)

    check(onto, lambda rows: 2 * rows["x"] + source(rows) @ W2.T)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_networks(gated: bool, norm: bool) -> None:
    gate, up, down, biases = (
        drawn(50, WIDTH),
        drawn(50, WIDTH),
        drawn(WIDTH, 50) / 8,
        [drawn(50), drawn(50), drawn(WIDTH)],
    )
    told = native.Network(
        packed(gate) if gated else None,
        packed(up),
        packed(down),
        "silu",
        given(biases[0]) if gated else None,
        *map(given, biases[1:]),
    )

    def network(x: np.ndarray) -> np.ndarray:
        inner = normed(x, NORM) if norm else x
        before, above = inner @ gate.T + biases[0], inner @ up.T + biases[1]
        hidden = oracle.sigmoid(before) * before * above if gated else oracle.sigmoid(above) * above
        return hidden @ down.T + biases[2]

    for onto in (None, "x", "twice"):

        def add(stack: Any, onto: str | None = onto) -> None:
            stack.combine("x", "twice", factor=2.0)
            stack.feed("x", told, "to", onto, row_norm(NORM) if norm else None)

        check(
            add, lambda rows, f={None: 0, "x": 1, "twice": 2}[onto]: f * rows["x"] + network(rows["x"]), what=str(onto)
        )


@pytest.mark.parametrize("at", [None, 0, 5])
def test_activations(at: int | None) -> None:
    def add(stack: Any) -> None:
        stack.project("x", [packed(W1[:19])], [None], ["gate"])
        stack.activate("gate", "silu", None if at is None else "extra", at or 0, "to")

    def expected(rows: Rows) -> np.ndarray:
        gate = rows["x"] @ W1[:19].T
        return gate * oracle.sigmoid(gate) * (1 if at is None else rows["extra"][:, at : at + 19])

    check(add, expected)


@pytest.mark.parametrize("by", ["sigmoid", "head_sigmoid", "head_softplus"])
@pytest.mark.parametrize(("dim", "at", "step"), [(8, 0, 1), (8, 3, 3), (20, 1, 3), (40, 0, 0)])
def test_gates(by: str, dim: int, at: int, step: int) -> None:
    if by == "sigmoid" and at + (WIDTH // dim - 1) * step + dim > EXTRA:
        at, step, dim = 1, 2, 10

    def expected(rows: Rows) -> np.ndarray:
        x = 30 * rows["x"].copy()
        for h in range(WIDTH // dim):
            gates = rows["extra"][:, at + h * step : at + h * step + (dim if by == "sigmoid" else 1)]
            x[:, h * dim : (h + 1) * dim] *= np.logaddexp(0, gates) if by == "head_softplus" else oracle.sigmoid(gates)
        return x

    def add(stack: Any) -> None:
        stack.combine("x", "to", factor=30.0)
        stack.gate("to", "extra", dim, at, step, by)

    check(add, expected)


@pytest.mark.parametrize("carried", [0, 3])
def test_a_matrix_for_each_head(carried: int) -> None:
    """Five heads of `x`, the last values of each carried along."""
    dim = WIDTH // 5
    w = drawn(5, 19, dim - carried)

    def expected(rows: Rows) -> np.ndarray:
        heads = rows["x"].reshape(-1, 5, dim)
        products = np.einsum("rhd,hod->rho", heads[..., : dim - carried], w)
        return np.concatenate([products, heads[..., dim - carried :]], axis=-1).reshape(len(heads), -1)

    check(lambda stack: stack.per_head("x", packed(w), carried, "to"), expected)


# ---- mixtures ------------------------------------------------------------------------------------

EXPERTS, HIDDEN = 12, 18
STACKS = [drawn(EXPERTS, HIDDEN, WIDTH), drawn(EXPERTS, HIDDEN, WIDTH), drawn(EXPERTS, WIDTH, HIDDEN) / 4]
STACK_BIASES = [drawn(EXPERTS, HIDDEN), drawn(EXPERTS, HIDDEN), drawn(EXPERTS, WIDTH)]
ROUTER = drawn(EXPERTS, WIDTH) / 4
SELECT, SCALE = drawn(EXPERTS), drawn(EXPERTS)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def best(scores: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-scores, kind="stable")[:count]


def chosen(logits: np.ndarray, how: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The experts of a row and their weights, as docs of routers say."""
    k, score = how["top_k"], how["score"]
    if score == "sparsemixer":
        ids, weights, left = [], [], logits.copy()
        for _ in range(k):
            top = int(left.argmax())
            far = (left[top] - logits) / np.maximum(abs(logits), left[top]) > 2 * how["jitter"]
            weights.append(softmax(np.where(far, -np.inf, left))[top])
            ids.append(top)
            left[top] = -np.inf
        ids, weights = np.array(ids), np.array(weights)
    else:
        scores = {"softmax": softmax, "sigmoid": oracle.sigmoid, "softmax_topk": lambda x: x}[score](logits)
        choice = scores + (SELECT if "select_bias" in how else 0)
        if groups := how.get("groups", 1):
            parts = choice.reshape(groups, -1)
            strength = np.sort(parts, axis=1)[:, -2:].sum(axis=1)
            kept = best(strength, how.get("top_groups", 1))
            choice = np.where(np.isin(np.arange(groups), kept)[:, None], parts, -np.inf).reshape(-1)
        ids = best(choice, k)
        weights = softmax(scores[ids]) if score == "softmax_topk" else scores[ids]
    if how.get("renorm"):
        weights = weights / (weights.sum() + how.get("renorm_eps", 1e-20))
    return ids, weights * how.get("scale", 1) * (SCALE[ids] if "expert_scale" in how else 1)


ROUTINGS: list[dict[str, Any]] = [
    {"top_k": 1, "score": "softmax"},
    {"top_k": 3, "score": "softmax", "renorm": True, "scale": 2.5},
    {"top_k": 4, "score": "softmax_topk", "expert_scale": SCALE},
    {"top_k": 3, "score": "sigmoid", "renorm": True, "renorm_eps": 0.25, "select_bias": SELECT},
    {"top_k": 3, "score": "sigmoid", "select_bias": SELECT, "groups": 4, "top_groups": 2, "expert_scale": SCALE},
    {"top_k": 5, "score": "softmax", "groups": 3, "top_groups": 2},
    {"top_k": 2, "score": "sigmoid", "groups": 12, "top_groups": 3},
    {"top_k": 12, "score": "softmax", "scale": 0.5},
    {"top_k": 2, "score": "sparsemixer", "jitter": 0.1},
    {"top_k": 3, "score": "sparsemixer", "jitter": 0.4, "renorm": True},
]
NUMBERED = range(len(ROUTINGS))


def routing(how: dict[str, Any]) -> Any:
    return native.Routing(**{name: given(v) if isinstance(v, np.ndarray) else v for name, v in how.items()})


def mixed(x: np.ndarray, weights: np.ndarray, ids: np.ndarray, scales_input: bool) -> np.ndarray:
    total = np.zeros(WIDTH)
    for weight, e in zip(weights, ids, strict=True):
        inner = x * weight if scales_input else x
        gate = STACKS[0][e] @ inner + STACK_BIASES[0][e]
        said = (
            STACKS[2][e] @ (gate * oracle.sigmoid(gate) * (STACKS[1][e] @ inner + STACK_BIASES[1][e]))
            + STACK_BIASES[2][e]
        )
        total += said if scales_input else weight * said
    return total


@pytest.mark.parametrize("number", NUMBERED)
def test_routers(number: int) -> None:
    """Whom a row is sent to is told beforehand by `route` as `mix` chooses it."""
    how = ROUTINGS[number]

    def add(stack: Any) -> None:
        stack.project("x", [packed(ROUTER)], [None], ["logits"])
        stack.route("logits", routing(how), "to")

    check(add, lambda rows: np.array([chosen(row, how)[0] for row in rows["x"] @ ROUTER.T]))


@pytest.mark.parametrize("number", NUMBERED)
@pytest.mark.parametrize("scales_input", [False, True])
def test_mixtures(number: int, scales_input: bool) -> None:
    how, onto = ROUTINGS[number], (None, "to", "twice")[number % 3]
    network = native.Network(*map(packed, STACKS), "silu", *map(given, STACK_BIASES))

    def add(stack: Any) -> None:
        stack.combine("x", "twice", factor=2.0)
        stack.combine("x", "to", factor=3.0)
        stack.project("x", [packed(ROUTER)], [None], ["logits"])
        stack.mix("x", "logits", routing(how), scales_input, network, "to", onto)

    def expected(rows: Rows) -> np.ndarray:
        factor = {None: 0, "to": 3, "twice": 2}[onto]
        found = factor * rows["x"]
        for r, x in enumerate(rows["x"]):
            ids, weights = chosen(ROUTER @ x, how)
            found[r] += mixed(x, weights, ids, scales_input)
        return found

    check(add, expected)


def test_equal_scores_go_to_the_lower_expert() -> None:
    stack = native.Stack(EXPERTS, 0, "to")
    stack.route("x", native.Routing(3, score="softmax"), "to")
    logits = np.zeros((1, EXPERTS))
    logits[0, [4, 9]] = 1
    assert np.array(stack(given(logits), None, [], [], [], [])[0]).tolist() == [[4, 9, 0]]
