"""How a model's authors say it is best drawn from: their generation_config.json, GGUF metadata, or their words.

Advice that is no number is passed over; numbers out of range are refused by `core.Sampling`. Where nobody says
anything, the temperature is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import Sampling

TEMPERATURE = 0.7  # where neither a person nor the model's authors say
NAMES = ("temperature", "top_p", "top_k", "min_p")
GGUF = {"general.sampling.temp": "temperature"} | {f"general.sampling.{name}": name for name in NAMES[1:]}
# said on the model's page and in no file of it, by general.basename
SAID = {"smollm2": {"temperature": 0.2, "top_p": 0.9}}


def from_generation_config(told: Mapping[str, Any]) -> Sampling:
    return _sampling({name: told.get(name) for name in NAMES})


def from_gguf(metadata: Mapping[str, Any]) -> Sampling:
    said = SAID.get(str(metadata.get("general.basename")).lower(), {})
    return _sampling({**said, **{name: metadata[key] for key, name in GGUF.items() if key in metadata}})


def _sampling(told: Mapping[str, Any]) -> Sampling:
    numbers = {name: value for name, value in told.items() if type(value) in (int, float)}
    return Sampling(**{"temperature": TEMPERATURE, **numbers})
