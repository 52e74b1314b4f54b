"""What listens against transformers: frames, rows, logits, and what is written down by its own rules of times; whole,
token by token, and as a person loads the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.assistant import tokenizer_of
from mlxrun.contracts import HeardWindow
from mlxrun.engine.transcription import TranscriptionJob
from mlxrun.loading import load_model, open_model
from mlxrun.loading.model import Model
from mlxrun.loading.options import LoadOptions
from mlxrun.media.mel import Clip
from mlxrun.ops.device import this_device
from mlxrun.spec_sound import SoundSpec
from mlxrun.speech import SpeechWish
from mlxrun.text.folder import read_json
from mlxrun.text.speech import speech_tokens

from .speech import CASES, FRAMES, LANGUAGE, ROWS, SpeechReference, sound, speech_reference

TOLERANCE = 1e-4
FAST = 4e-3  # of the largest


@pytest.fixture(scope="module", params=list(CASES))
def reference(request: pytest.FixtureRequest) -> SpeechReference:
    return speech_reference(request.param)


@pytest.fixture(scope="module")
def folder(reference: SpeechReference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.write(tmp_path_factory.mktemp(reference.name))


@pytest.fixture(scope="module")
def clip(reference: SpeechReference) -> Clip:
    return Clip(sound(), SoundSpec(CASES[reference.name]))


def loaded(folder: Path, **device: Any) -> Model:
    model = load_model(folder, options=LoadOptions(device=this_device(**device)))
    assert isinstance(model, Model)
    return model


def rows_of(model: Model, clip: Clip) -> mx.array:
    assert model.listener is not None
    *_, rows = model.listener.encode(mx.array(clip.window(0)))
    return rows


def logits_of(model: Model, heard: HeardWindow, tokens: Sequence[int], cuts: Sequence[int] = ()) -> np.ndarray:
    memory, found = model.new_sequence(), []
    memory.heard = heard
    for part in np.split(np.array(tokens), list(cuts)):
        hidden = model(mx.array(part, mx.int32), [(memory, len(part))])
        found.append(np.array(model.logits(hidden).astype(mx.float32)))
    return np.concatenate(found)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert apart <= tolerance, apart


def test_frames(reference: SpeechReference, clip: Clip) -> None:
    assert np.abs(clip.window(0)[list(FRAMES)] - reference.mels).max() <= 1e-6


@pytest.mark.parametrize(("device", "tolerance"), [({"precision": "exact"}, TOLERANCE), ({"native": False}, TOLERANCE)])
def test_rows_and_logits(
    reference: SpeechReference, folder: Path, clip: Clip, device: dict[str, Any], tolerance: float
) -> None:
    model = loaded(folder, **device)
    rows = rows_of(model, clip)
    close(np.array(rows)[list(ROWS)], reference.rows, tolerance)
    heard = model.heard(rows)
    close(logits_of(model, heard, reference.tokens), reference.logits, tolerance)
    close(logits_of(model, heard, reference.tokens, (1, 3, 4, 11)), reference.logits, tolerance)


def test_as_a_person_loads_it(reference: SpeechReference, folder: Path, clip: Clip) -> None:
    model = loaded(folder)
    rows = rows_of(model, clip)
    close(np.array(rows.astype(mx.float32))[list(ROWS)], reference.rows, FAST)
    heard = model.heard(rows)
    whole = logits_of(model, heard, reference.tokens)
    close(whole, reference.logits, FAST)
    assert np.array_equal(logits_of(model, heard, reference.tokens, (2, 3, 9)), whole) or not model.device.native


def test_rows_of_others_change_nothing(reference: SpeechReference, folder: Path, clip: Clip) -> None:
    """Two sounds and no sound in one pass."""
    model = loaded(folder)
    one, other = model.heard(rows_of(model, clip)), model.heard(rows_of(model, Clip(sound()[::-1], clip.sound)))
    tokens, memories = reference.tokens[:7], [model.new_sequence() for _ in range(3)]
    for memory, heard in zip(memories, (other, one, None), strict=True):
        memory.heard = heard
    hidden = model(mx.array(tokens * 3, mx.int32), [(memory, 7) for memory in memories])
    beside = np.array(model.logits(hidden).astype(mx.float32))
    close(beside[7:14], logits_of(model, one, tokens), 1e-6)
    close(beside[:7], logits_of(model, other, tokens), 1e-6)
    assert np.abs(beside[14:] - beside[7:14]).max() > 0.1


def test_it_writes_what_transformers_writes(reference: SpeechReference, folder: Path, clip: Clip) -> None:
    opened = open_model(folder)
    generation = read_json(folder / "generation_config.json")
    words = speech_tokens(tokenizer_of(opened.checkpoint), reference.config["vocab_size"], generation, "it")
    assert list(words.languages) == ["en", "de", "haw"]
    tried: list[list[int]] = []
    wish = SpeechWish(LANGUAGE, temperatures=(0.0,))
    job = TranscriptionJob(clip, wish, words, lambda tokens: tried.append(list(tokens)) or 1.0)
    for _ in job.passes(loaded(folder, precision="exact")):
        pass
    texts = [token for token in reference.written if token < words.first_time]
    assert tried[0][: len(texts)] == texts
    spoken = job.done.result()
    assert spoken.language == LANGUAGE
    assert [token for segment in spoken.segments for token in segment.tokens] == texts
    first = next(token for token in reference.written if token >= words.first_time)
    assert spoken.segments[0].start == pytest.approx((first - words.first_time) * 0.02)
    assert all(0 <= one.start <= one.end <= 7.3 for one in spoken.segments)
