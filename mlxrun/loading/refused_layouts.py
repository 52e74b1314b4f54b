"""Quantized weights that MLX does not multiply by on a GPU that is not Apple's: found by trying, and held in full.

MLX's CUDA build has no kernel for some shapes and layouts, and says so only when a product is computed. So before a
model depends on one, each layout and shape is tried with zeros: by one row, a few and many, as matrix and as experts.
Metal has them all, so there nothing is tried. Never run on such a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.core as mx

from ..ops.quantized import QuantizedWeight, Weight

ROWS = (1, 8, 64)  # MLX 0.32 takes another kernel from 8 rows on, and another for prompts
Product = Callable[[mx.array, QuantizedWeight], mx.array]
Kind = tuple[object, ...]


def hold_refused(
    weights: Mapping[str, Weight], dtype: mx.Dtype | None, products: Mapping[int, tuple[Product, ...]] | None = None
) -> tuple[dict[str, Weight], str | None]:
    """The same weights, those in full by which nothing multiplies here, and what a person should know of it.

    `products`: what is tried, by the axes of a weight; None: what our operations use.
    """
    tried: dict[Kind, str | None] = {}
    held: dict[str, Weight] = {}
    for name, weight in weights.items():
        held[name] = weight
        if not isinstance(weight, QuantizedWeight):
            continue
        wanted = dtype or (weight.scales.dtype if weight.mode == "affine" else mx.bfloat16)
        kind = kind_of(weight, wanted)
        if kind not in tried:
            tried[kind] = why_refused(weight, wanted, PRODUCTS if products is None else products)
        if tried[kind] is not None:
            held[name] = weight.dequantize(wanted)
    return held, note_of([name for name in weights if held[name] is not weights[name]], tried)


def kind_of(w: QuantizedWeight, dtype: mx.Dtype) -> Kind:
    return w.mode, w.bits, w.group, w.shape[-2:], w.ndim, dtype


def why_refused(w: QuantizedWeight, dtype: mx.Dtype, products: Mapping[int, tuple[Product, ...]]) -> str | None:
    """None: every product was computed."""
    some = w.rows(lambda part: mx.zeros((*(min(2, n) for n in part.shape[:-2]), *part.shape[-2:]), part.dtype))
    try:
        mx.eval(some.dequantize(dtype)[..., :1, :])  # as a table's rows are read
        for product in products[w.ndim]:
            mx.eval([product(mx.zeros((rows, w.shape[-1]), dtype), some) for rows in ROWS])
    except (RuntimeError, ValueError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def by_matrix(x: mx.array, w: QuantizedWeight) -> mx.array:
    x = x if w.ndim == 2 else mx.broadcast_to(x, (w.shape[0], *x.shape))
    return mx.quantized_matmul(x, w.packed, w.scales, w.biases, group_size=w.group, bits=w.bits, mode=w.mode)


def by_expert(x: mx.array, w: QuantizedWeight) -> mx.array:
    return mx.gather_qmm(
        x[:, None],
        w.packed,
        w.scales,
        w.biases,
        rhs_indices=mx.zeros((x.shape[0],), mx.uint32),
        group_size=w.group,
        bits=w.bits,
        mode=w.mode,
        sorted_indices=True,
    )


PRODUCTS: dict[int, tuple[Product, ...]] = {2: (by_matrix,), 3: (by_matrix, by_expert)}


def note_of(names: list[str], tried: Mapping[Kind, str | None]) -> str | None:
    reasons = dict.fromkeys(why for why in tried.values() if why is not None)
    if not names:
        return None
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"MLX does not multiply by all of these quantized weights on this GPU, so some are held in full: "
        f"{names[0]}{others} ({'; '.join(reasons)})."
    )
