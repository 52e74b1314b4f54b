"""What sees in a checkpoint of several parts: one recipe a wrapper's `model_type`, as `families` has for decoders.

A tower that cannot be served is left out with its reason, and the model still reads text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...spec import Attention, Decoder, ModelError, Rope
from ...spec_towers import Towers
from ..config import Config, Dialect, refusing
from ..rules import Rename, Rule

PROCESSOR = "preprocessor_config.json"

# model_type of the wrapper: module.function
TOWERS: dict[str, str] = {
    "gemma3": "siglip.gemma3",
    "gemma4": "gemma4.gemma4",
    "gemma4_unified": "gemma4.gemma4_unified",
    "glm4v": "glm.glm4v",
    "idefics3": "siglip.idefics3",
    "internvl": "internvl.internvl",
    "llava": "pixtral.pixtral",
    "mistral3": "pixtral.mistral3",
    "qwen2_5_vl": "qwen.qwen2_5_vl",
    "qwen3_5": "qwen.qwen3_5",
    "qwen3_5_moe": "qwen.qwen3_5",
    "qwen3_vl": "qwen.qwen3_vl",
    "qwen3_vl_moe": "qwen.qwen3_vl",
    "smolvlm": "siglip.idefics3",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a recipe of a tower reads, each of which remembers what was asked for."""

    whole: Config  # config.json
    vision: Config  # its vision_config
    picture: Config  # preprocessor_config.json
    decoder: Decoder

    @property
    def dim(self) -> int:
        return self.decoder.dim

    @property
    def _ropes(self) -> list[Rope]:
        mixers = (layer.mixer for layer in self.decoder.layers)
        return [mixer.rope for mixer in mixers if isinstance(mixer, Attention) and mixer.rope is not None]

    @property
    def pairs(self) -> int:
        """Of a head of the decoder, those that turn."""
        return len(self._ropes[0].freqs) if self._ropes else 0

    @property
    def changes(self) -> bool:
        """Whether the decoder's ropes are others for long sessions."""
        return any(rope.long_freqs is not None for rope in self._ropes)


@dataclass(frozen=True, slots=True)
class TowerRecipe:
    towers: Towers
    rules: tuple[Rule, ...]
    axes: tuple[int, ...] = ()  # of the decoder's ropes, where its rows turn by line and column
    sliding: bool = False  # rows that see each other do so in the decoder's layers with windows alone


TowerFunction = Callable[[Parts], TowerRecipe]


def tower_of(
    config: Mapping[str, Any],
    processor: Mapping[str, Any] | None,
    decoder: Decoder,
    dialect: Dialect,
    waive: frozenset[str],
    names: Collection[str],
) -> TowerRecipe | str | None:
    """The recipe of a checkpoint's tower; or why it is left out; None: it has none, or none that is known here.

    `processor`: None where no file says how its pictures are made ready. `names`: of the tensors, where they are known;
    other programs write the text half alone and leave what config.json says of a tower.
    """
    kind, vision = config.get("model_type"), config.get("vision_config")
    if kind not in TOWERS or not isinstance(vision, Mapping):
        return None
    if processor is None:
        return f"{PROCESSOR} is missing"
    parts = Parts(
        Config(config, dialect, waive),
        Config(vision, dialect, waive, "config.json: vision_config"),
        Config(processor, dialect, waive, PROCESSOR),
        decoder,
    )
    module, function = TOWERS[kind].split(".")
    recipe: TowerFunction = getattr(import_module(f"{__name__}.{module}"), function)
    try:
        with refusing("config.json: vision_config", kind, parts.vision):
            found = recipe(parts)
        for read in (parts.vision, parts.picture):
            if unread := read.unread():
                raise ModelError(f"{read.file}: {', '.join(unread)} is not known here")
        own = [rule.src for rule in found.rules if isinstance(rule, Rename) and rule.dst.startswith("vision.")]
        if names and not any(re.search(pattern, name) for pattern in own for name in names):
            raise ModelError("its weights are not there")
        if found.axes and parts.changes:
            raise ModelError("config.json: a rope that changes with the length cannot turn by line and column")
    except ModelError as error:
        return str(error).rstrip(".")
    return found
