"""Mutants of the C++ that change nothing a caller could see, and why: there is nothing to kill."""

from __future__ import annotations

from ..mutants import Equivalent

EQUIVALENT = (
    Equivalent("", r"\.reserve\(", "room that is made ahead; a vector makes more itself"),
    Equivalent(
        "experts.cpp",
        r"kSlots - 1\) \* kSlots \* kSlots",
        "more positions than are needed; those without a row are passed over",
    ),
    Equivalent("experts.cpp", r"int gate_bias = .* = -2", "any number below zero means that there is none"),
)
