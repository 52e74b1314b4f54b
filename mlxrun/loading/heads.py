"""A checkpoint's own head that guesses further tokens, as a model of one layer that is loaded beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..families.prediction import ENTRANCE
from ..spec import ModelError
from .beside import plan_beside
from .load import load_opened
from .model import Model
from .open import OpenedModel
from .options import LoadOptions

WITHOUT = "leave out --draft heads (MLXRUN_DRAFT)."


def head_of(opened: OpenedModel) -> OpenedModel:
    """ModelError, where it has none, or one that is not understood."""
    recipe, name = opened.recipe, opened.path.name
    if recipe.further is None:
        raise ModelError(f"{name}: prediction heads of {recipe.decoder.family} are not understood here; {WITHOUT}")
    number = len(recipe.decoder.layers)
    if not any(f"layers.{number}.{ENTRANCE}." in tensor for tensor in opened.checkpoint.shapes):
        raise ModelError(f"{name} has no prediction heads: conversions often leave them out; {WITHOUT}")
    return replace(opened, found=recipe.further)


def head_beside(opened: OpenedModel, options: LoadOptions) -> tuple[LoadOptions, Callable[[], Model]]:
    """How the model is to be loaded so that there is room for its head, and what loads that."""
    head = head_of(opened)
    rest, how = plan_beside(head, opened, options, None)
    return rest, lambda: load_head(head, how)


def load_head(head: OpenedModel, options: LoadOptions) -> Model:
    loaded = load_opened(head, options)
    assert isinstance(loaded, Model)  # it has a recipe
    return loaded
