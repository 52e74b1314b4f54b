"""Whether what a file says of how sounds are made ready is what is done here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import ModelError, shown
from ..spec_sound import SoundSpec

PROCESSOR = "preprocessor_config.json"


def check_sound(processor: Mapping[str, Any], sound: SoundSpec) -> None:
    told = {
        "feature_size": sound.mels,
        "sampling_rate": sound.rate,
        "n_fft": sound.fft,
        "hop_length": sound.hop,
        "chunk_length": sound.seconds,
        "dither": 0.0,
    }
    for key, known in told.items():
        if (found := processor.get(key)) is not None and found != known:
            raise ModelError(f"{PROCESSOR}: {key} must be {known} in this model, not {shown(found)}.")
