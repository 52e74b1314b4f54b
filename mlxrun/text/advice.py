"""How a model's authors say it is best drawn from: their generation_config.json, GGUF metadata, or their words.

Advice that is no number is passed over; numbers that `core.Sampling` refuses are refused with their file. Where
nobody says anything, the temperature is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import RequestError, Sampling
from ..spec import ModelError, shown

TEMPERATURE = 0.7  # where neither a person nor the model's authors say
NAMES = ("temperature", "top_p", "top_k", "min_p")
GGUF = {"general.sampling.temp": "temperature"} | {f"general.sampling.{name}": name for name in NAMES[1:]}
# said on the model's page and in no file of it, by general.basename
SAID = {"smollm2": {"temperature": 0.2, "top_p": 0.9}}


def from_generation_config(told: Mapping[str, Any]) -> Sampling:
    return _sampling({name: told.get(name) for name in NAMES}, "generation_config.json")


def from_gguf(metadata: Mapping[str, Any]) -> Sampling:
    said = SAID.get(str(metadata.get("general.basename")).lower(), {})
    return _sampling(
        {**said, **{name: metadata[key] for key, name in GGUF.items() if key in metadata}}, "the GGUF file"
    )


def _sampling(told: Mapping[str, Any], file: str) -> Sampling:
    numbers = {name: value for name, value in told.items() if type(value) in (int, float)}
    if not isinstance(numbers.get("top_k", 0), int):
        raise ModelError(f"{file}: top_k must be a whole number, not {shown(numbers['top_k'])}.")
    try:
        return Sampling(**{"temperature": TEMPERATURE, **numbers})
    except RequestError as error:
        raise ModelError(f"{file}: {error}") from error
