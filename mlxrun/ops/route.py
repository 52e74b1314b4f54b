"""Which experts serve a row, and with what weight. One function for every router there is.

The order is fixed: score in float32, add the selection bias, mask groups with -inf, take the top k,
gather the score without the bias, renormalise, scale. Equal scores go to the lower expert.
"""

from __future__ import annotations

import mlx.core as mx

from ..spec import Router


def route(logits: mx.array, spec: Router, select_bias: mx.array | None = None) -> tuple[mx.array, mx.array]:
    """logits (T, E) -> expert ids (T, k) and their float32 weights (T, k), best first."""
    logits = logits.astype(mx.float32)
    if spec.score == "sparsemixer":
        ids, weights = _sparsemixer(logits, spec.top_k, spec.jitter)
    else:
        scores = _scores(logits, spec)
        choice = scores if select_bias is None else scores + select_bias.astype(mx.float32)
        if spec.groups > 1:
            choice = _best_groups(choice, spec.groups, spec.top_groups)
        ids = _top(choice, spec.top_k)
        weights = mx.take_along_axis(scores, ids, axis=-1)
        if spec.score == "softmax_topk":
            weights = mx.softmax(weights, axis=-1)
    if spec.renorm:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + spec.renorm_eps)
    return ids, weights if spec.scale == 1.0 else weights * spec.scale


def _scores(logits: mx.array, spec: Router) -> mx.array:
    match spec.score:
        case "softmax":
            return mx.softmax(logits, axis=-1)
        case "sigmoid":
            return mx.sigmoid(logits)
        case _:
            return logits


def _top(scores: mx.array, count: int) -> mx.array:
    """Ids of the best, best first. A stable sort: MLX's partition is a sort on a GPU too. An order has no gradient."""
    return mx.argsort(-mx.stop_gradient(scores), axis=-1)[..., :count]


def _best_groups(choice: mx.array, groups: int, keep: int) -> mx.array:
    """Scores outside the best groups become -inf; a group counts its two best experts."""
    rows, experts = choice.shape
    grouped = choice.reshape(rows, groups, experts // groups)
    two = min(2, experts // groups)
    strength = mx.sort(grouped, axis=-1)[..., -two:].sum(axis=-1)  # (T, groups)
    kept = mx.zeros(strength.shape, mx.bool_)
    kept = mx.put_along_axis(kept, _top(strength, keep), mx.array(True), axis=-1)
    return mx.where(kept[..., None], grouped, -mx.inf).reshape(rows, experts)


def _sparsemixer(logits: mx.array, count: int, jitter: float) -> tuple[mx.array, mx.array]:
    """Phi-MoE: the best expert, weighted among those near it; then the same without it, and so on."""
    left, ids, weights = logits, [], []
    for _ in range(count):
        best = left.max(axis=-1, keepdims=True)
        chosen = mx.stop_gradient(left).argmax(axis=-1, keepdims=True)
        far = (best - logits) / mx.maximum(mx.abs(logits), best) > 2 * jitter
        near = mx.softmax(mx.where(far, -mx.inf, left), axis=-1)
        ids.append(chosen)
        weights.append(mx.take_along_axis(near, chosen, axis=-1))
        left = mx.put_along_axis(left, chosen, mx.array(-mx.inf), axis=-1)
    return mx.concatenate(ids, axis=-1), mx.concatenate(weights, axis=-1)
