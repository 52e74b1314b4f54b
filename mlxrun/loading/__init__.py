"""From a path to a model that runs: headers, recipe, plan, weights, blocks. Knows no request, no text and no engine."""

from __future__ import annotations

from .load import LoadOptions, load_model

__all__ = ["LoadOptions", "load_model"]
