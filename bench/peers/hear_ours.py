"""mlxrun writes down a sound file, the way its command does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from asked import answer

from mlxrun.assistant import Assistant
from mlxrun.loading import LoadOptions
from mlxrun.ops.device import this_device
from mlxrun.speech import TranscriptWish


class Ours:
    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        how = LoadOptions(device=this_device(options.get("precision") or None))
        self.assistant = Assistant.open(Path(folder), options=how)

    def hear(self, file: str) -> tuple[float, str]:
        transcriber = self.assistant.transcriber
        assert transcriber is not None
        start = time.perf_counter()
        samples = transcriber.open(Path(file).read_bytes())
        made = transcriber.transcript(transcriber.begin(samples, TranscriptWish("en")).done.result())
        return time.perf_counter() - start, made.text


if __name__ == "__main__":
    answer(Ours)
