"""Mutants of the C++ that change nothing a caller could see, and why: there is nothing to kill."""

from __future__ import annotations

from ..mutants import Equivalent

EQUIVALENT = (
    Equivalent("", r"\.reserve\(", "room that is made ahead; a vector makes more itself"),
    Equivalent(
        "body_rows.h",
        r"F p = set1\(1\.0f / 50(39|41)\);",
        "2e-11 of e^x: a last bit of one value in 20 000, and the largest error stays what it was, 0.92 ulp",
    ),
    Equivalent(
        "body_rows.h",
        r"p = fma\(r, p, set1\((1\.0f / 6|0\.5f)\)\);",
        "a product of two factors in the other order is the same product",
    ),
    Equivalent(
        "body_rows.h",
        r"uint8_t copy\[63\] = \{\};",
        "the byte behind it is padding up to the next 64; only a build with --sanitize can tell, and does",
    ),
    Equivalent(
        "experts.cpp",
        r"kSlots - 1\) \* kSlots \* kSlots",
        "more positions than are needed; those without a row are passed over",
    ),
    Equivalent("attention.cpp", r"mask_at = -\d, sinks_at = -\d;", "any number below zero means that there is none"),
    Equivalent(
        "attention.cpp",
        r"one\.out_strides\[0\] = one\.out_strides\[[01]\] = .*, one\.out_strides\[1\] = a\.v_dim;",
        "strides of the only sequence and of its only query: they multiply zero",
    ),
    Equivalent(
        "body_attend.h",
        r"float\* v = kt \+ \(size_t\)padded\(a\.dim\) \* 15;",
        "the turned keys of a chunk are done with before its values are written over their end",
    ),
    Equivalent(
        "body_attend.h",
        r"float factor = before == -__builtin_inff\(\) \? 0\.010000f",
        "it multiplies zeros, or NaN, for nothing was gathered yet",
    ),
    Equivalent("experts.cpp", r"int gate_bias = .* = -2", "any number below zero means that there is none"),
)
