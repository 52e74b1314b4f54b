"""A mixture of experts in four launches: the router's logits, its choice, gate and up with their activation, down
with the sum. Logits of a quantized router are a product of `glue.project`.

For a few rows (decoding, small batches): pairs of one expert are served together, so that its weights
are read once. Long prompts, with rows sorted by expert: `products.qmm_experts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from .check import FORMATS, Quantized, biases_or_scales, check_residual, floating, need, weight
from .launch import Body, launch, number
from .norms import Normed, unpacked
from .tiles import STANDARD, ExpertTile

LOGITS = Body("router_logits", ("x", "norm", "eps", "w", "added"), ("logits",))
ROUTER = Body("router", ("logits", "bias", "scale"), ("ids", "weights"), ("router.h",))
EXPERTS_IN = Body(
    "experts_in",
    (
        *("x", "ids", "gate_w", "gate_scales", "gate_biases", "up_w", "up_scales", "up_biases"),
        *("gate_added", "up_added", "norm", "eps"),
    ),
    ("hidden",),
    ("weights.h", "activations.h"),
)
EXPERTS_OUT = Body(
    "experts_out",
    ("hidden", "ids", "weights", "w", "scales", "biases", "added", "residual"),
    ("y",),
    ("weights.h",),
)

SCORES = {"softmax": 0, "softmax_topk": 1, "sigmoid": 2}  # as in router.h
ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "clamped_swiglu": 4}  # as in activations.h
MOST_EXPERTS, MOST_CHOICES, MOST_PAIRS = 1024, 32, 256
MOST_TOGETHER = 4  # pairs of one expert whose activations fit into registers


@dataclass(frozen=True, slots=True)
class Rule:
    """How a router chooses; the fields are those of `mlxrun.spec.Router`."""

    top_k: int
    score: str = "softmax"
    renorm: bool = False
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1


def router_logits(
    x: Normed, router: mx.array, added: mx.array | None = None, tile: ExpertTile = STANDARD.experts
) -> mx.array:
    """RMSNorm(x) (T, K) times a router (E, K) of plain numbers, plus added (E,) -> logits (T, E) float32."""
    rows, norm, eps, _ = unpacked(x)
    floating("x", rows)
    floating("router", router)
    need(1 <= rows.shape[0] <= MOST_TOGETHER, f"x has {rows.shape[0]} rows; the kernel takes 1 to {MOST_TOGETHER}.")
    fits = router.ndim == 2 and router.shape[1] == rows.shape[1]
    need(fits, f"router has shape {tuple(router.shape)}; x needs (E, {rows.shape[1]}).")
    experts = router.shape[0]
    need(added is None or tuple(added.shape) == (experts,), f"added must have shape ({experts},).")
    template = {"M": rows.shape[0], "ADDED": added is not None, "ROWS": tile.rows, "SIMDGROUPS": tile.simdgroups}
    return launch(
        LOGITS,
        (rows, norm, number(eps), router, norm if added is None else added),
        [((rows.shape[0], experts), mx.float32)],
        template,
        groups=(-(-experts // (tile.rows * tile.simdgroups)), 1, 1),
        threads=32 * tile.simdgroups,
    )[0]


def route(logits: mx.array, rule: Rule, select_bias: mx.array | None = None) -> tuple[mx.array, mx.array]:
    """logits (T, E) float32 -> expert ids (T, k) uint32 and weights (T, k) float32, best first."""
    need(logits.ndim == 2 and logits.dtype == mx.float32, f"logits must be (T, E) float32, not {logits.dtype}.")
    rows, experts = logits.shape
    need(rule.score in SCORES, f"No kernel for a router that scores by {rule.score}.")
    need(experts <= MOST_EXPERTS, f"{experts} experts; the kernel takes at most {MOST_EXPERTS}.")
    need(1 <= rule.top_k <= min(MOST_CHOICES, experts), f"top_k = {rule.top_k}; the kernel takes 1 to {MOST_CHOICES}.")
    need(experts % rule.groups == 0 and rule.groups <= 32, f"{rule.groups} groups of {experts} experts.")
    need(1 <= rule.top_groups <= rule.groups, f"top_groups = {rule.top_groups} of {rule.groups} groups.")
    if select_bias is not None:
        need(tuple(select_bias.shape) == (experts,), f"select_bias has shape {tuple(select_bias.shape)}.")
        need(select_bias.dtype == mx.float32, f"select_bias is {select_bias.dtype}; the kernel takes float32.")
    template = {
        "E": experts,
        "K": rule.top_k,
        "SCORE": SCORES[rule.score],
        "BIASED": select_bias is not None,
        "RENORM": rule.renorm,
        "GROUPS": rule.groups,
        "TOP_GROUPS": rule.top_groups,
    }
    shape = (rows, rule.top_k)
    inputs = (logits, logits if select_bias is None else select_bias, number(rule.scale))
    ids, weights = launch(
        ROUTER, inputs, [(shape, mx.uint32), (shape, mx.float32)], template, groups=(rows, 1, 1), threads=32
    )
    return ids, weights


def experts_in(
    x: mx.array | Normed,
    ids: mx.array,
    gate: Quantized,
    up: Quantized,
    act: str,
    added: Sequence[mx.array] = (),
    tile: ExpertTile = STANDARD.experts,
) -> mx.array:
    """x (T, K), ids (T, k), gate and up (E, I, K), `added` biases (E, I) of both -> hidden (T * k, I)."""
    x, norm, eps, normed = unpacked(x)
    floating("x", x)
    need(act in ACTIVATIONS, f"No kernel for the activation {act}.")
    outputs, inner = weight(gate, x.dtype, ndim=3)
    need(weight(up, x.dtype, ndim=3) == (outputs, inner), "gate and up must have the same shape.")
    need((up.mode, up.bits, up.group) == (gate.mode, gate.bits, gate.group), "gate and up must be quantized alike.")
    need(x.ndim == 2 and x.shape[1] == inner, f"x has shape {tuple(x.shape)}; gate needs (T, {inner}).")
    _check_ids(ids, x.shape[0])
    _check_added(added, 2, (gate.packed.shape[0], outputs))
    per_group = tile.rows * tile.simdgroups
    template = _template(gate, x.dtype, ids, tile) | {"ACT": ACTIVATIONS[act], "ADDED": bool(added), "NORMED": normed}
    parts = [a for w in (gate, up) for a in (w.packed, w.scales, biases_or_scales(w))]
    return launch(
        EXPERTS_IN,
        (x, ids.reshape(-1), *parts, *(added or (gate.scales, gate.scales)), norm, number(eps)),
        [((ids.size, outputs), x.dtype)],
        template,
        groups=(-(-outputs // per_group), ids.size, 1),
        threads=32 * tile.simdgroups,
    )[0]


def experts_out(
    hidden: mx.array,
    ids: mx.array,
    weights: mx.array,
    down: Quantized,
    added: mx.array | None = None,
    residual: mx.array | None = None,
    tile: ExpertTile = STANDARD.experts,
) -> mx.array:
    """hidden (T * k, I), ids and weights (T, k), down (E, N, I), bias `added` (E, N) -> y (T, N), plus residual."""
    floating("hidden", hidden)
    outputs, inner = weight(down, hidden.dtype, ndim=3)
    _check_ids(ids, ids.shape[0])
    need(tuple(hidden.shape) == (ids.size, inner), f"hidden has shape {tuple(hidden.shape)}; it must be (T * k, I).")
    need(weights.dtype == mx.float32 and weights.shape == ids.shape, "weights must be float32, shaped as ids.")
    _check_added(() if added is None else (added,), 1, (down.packed.shape[0], outputs))
    per_group = tile.rows * tile.simdgroups
    template = _template(down, hidden.dtype, ids, tile) | {"PAIRS": ids.size, "ADDED": added is not None}
    check_residual(residual, (ids.shape[0], outputs), hidden.dtype)
    template["RESIDUAL"] = residual is not None
    parts = (down.packed, down.scales, biases_or_scales(down), down.scales if added is None else added)
    given = hidden if residual is None else residual
    return launch(
        EXPERTS_OUT,
        (hidden, ids.reshape(-1), weights.reshape(-1), *parts, given),
        [((ids.shape[0], outputs), hidden.dtype)],
        template,
        groups=(-(-outputs // per_group), 1, 1),
        threads=32 * tile.simdgroups,
    )[0]


def gate_up(
    x: mx.array | Normed,
    gate: Quantized,
    up: Quantized,
    act: str,
    added: Sequence[mx.array] = (),
    tile: ExpertTile = STANDARD.experts,
) -> mx.array:
    """act(x gate) * (x up) of a dense layer, T = 1..4 rows, in one launch: a mixture of one expert."""
    rows = (x.x if isinstance(x, Normed) else x).shape[0]
    need(rows <= MOST_TOGETHER, f"x has {rows} rows; the kernel takes 1 to {MOST_TOGETHER}.")
    return experts_in(x, _zeros(rows), _only(gate), _only(up), act, [a[None] for a in added], tile)


@dataclass(frozen=True, slots=True)
class _OneExpert:
    packed: mx.array
    scales: mx.array
    biases: mx.array | None
    mode: str
    bits: int
    group: int


def _only(w: Quantized) -> _OneExpert:
    biases = None if w.biases is None else w.biases[None]
    return _OneExpert(w.packed[None], w.scales[None], biases, w.mode, w.bits, w.group)


def _template(w: Quantized, dtype: mx.Dtype, ids: mx.array, tile: ExpertTile) -> dict[str, object]:
    return {
        "T": dtype,
        "FORMAT": FORMATS[w.mode],
        "BITS": w.bits,
        "GROUP": w.group,
        "M": min(ids.shape[0], MOST_TOGETHER),
        "CHOICES": ids.shape[1],
        "ROWS": tile.rows,
        "SIMDGROUPS": tile.simdgroups,
        "BITCAST": tile.bitcast,
    }


def _check_ids(ids: mx.array, rows: int) -> None:
    need(ids.ndim == 2 and ids.dtype == mx.uint32, f"ids must be (T, k) uint32, not {ids.dtype}.")
    need(ids.shape[0] == rows, f"ids has {ids.shape[0]} rows, x has {rows}.")
    need(ids.size <= MOST_PAIRS, f"{ids.size} pairs of row and expert; the kernel takes at most {MOST_PAIRS}.")


def _check_added(added: Sequence[mx.array], count: int, shape: tuple[int, int]) -> None:
    need(len(added) in (0, count), f"{len(added)} biases; {count} or none are needed.")
    for a in added:
        need(tuple(a.shape) == shape, f"A bias has shape {tuple(a.shape)}; it must be {shape}.")


@lru_cache(maxsize=8)
def _zeros(rows: int) -> mx.array:
    return mx.array([[0]] * rows, mx.uint32)  # mx.zeros would be a launch
