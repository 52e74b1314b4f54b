"""From a path to a model that runs: headers, recipe, plan, weights, blocks. Knows no request, no text and no engine.

`open_model` reads headers; `load` makes of them what this device computes with; `load_model` does both.
"""

from __future__ import annotations

from .load import load, load_model
from .open import OpenedModel, open_model
from .options import LoadOptions

__all__ = ["LoadOptions", "OpenedModel", "load", "load_model", "open_model"]
