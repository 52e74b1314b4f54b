"""From a path to a model that runs: headers, recipe, plan, weights, blocks. Knows no request, no text and no engine.

`open_model` reads headers; `load_opened` makes of them what this device computes with; `load_model` does both.
"""

from __future__ import annotations

from .load import load_model, load_opened
from .open import OpenedModel, open_model
from .options import LoadOptions

__all__ = ["LoadOptions", "OpenedModel", "load_model", "load_opened", "open_model"]
