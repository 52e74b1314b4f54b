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
CUTS = ("top_p", "top_k", "min_p")
NAMES = ("temperature", *CUTS, "typical_p", "repetition_penalty")
GGUF = {f"general.sampling.{name}": name for name in (*CUTS, "xtc_probability", "xtc_threshold")} | {
    "general.sampling.temp": "temperature",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
LAST_N, USUAL_LAST_N = "general.sampling.penalty_last_n", 64  # llama.cpp's, where -1 is all and 0 none
# said on the model's page and in no file of it, by general.basename
SAID = {"smollm2": {"temperature": 0.2, "top_p": 0.9}}


def from_generation_config(told: Mapping[str, Any]) -> Sampling:
    return _sampling({name: told.get(name) for name in NAMES}, "generation_config.json")


def from_gguf(metadata: Mapping[str, Any]) -> Sampling:
    said = SAID.get(str(metadata.get("general.basename")).lower(), {})
    told = {**said, **{name: metadata[key] for key, name in GGUF.items() if key in metadata}}
    last = metadata.get(LAST_N, USUAL_LAST_N)
    if last == 0 or type(last) is not int:
        told.pop("repetition_penalty", None)
    elif "repetition_penalty" in told:
        told["repeat_last_n"] = max(0, last)
    return _sampling(told, "the GGUF file")


def _sampling(told: Mapping[str, Any], file: str) -> Sampling:
    numbers = {name: value for name, value in told.items() if type(value) in (int, float)}
    if not isinstance(numbers.get("top_k", 0), int):
        raise ModelError(f"{file}: top_k must be a whole number, not {shown(numbers['top_k'])}.")
    try:
        return Sampling(**{"temperature": TEMPERATURE, **numbers})
    except RequestError as error:
        raise ModelError(f"{file}: {error}") from error
