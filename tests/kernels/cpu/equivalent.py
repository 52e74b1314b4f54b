"""Mutants of the C++ that change nothing a caller could see, and why: there is nothing to kill."""

from __future__ import annotations

from ..mutants import Equivalent

EQUIVALENT = (Equivalent("", r"^\s*;;$", "nothing was changed"),)
