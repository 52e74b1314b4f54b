"""faster-whisper writes down a sound file: the likeliest token each time, as we do."""

from __future__ import annotations

import sys
import time
from typing import Any

from asked import answer


class Faster:
    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        sys.path.insert(0, options["packages"])
        from faster_whisper import WhisperModel

        self.model = WhisperModel(
            folder, device="cpu", compute_type=options["compute"], cpu_threads=options.get("threads") or 0
        )

    def hear(self, file: str) -> tuple[float, str]:
        start = time.perf_counter()
        segments, _ = self.model.transcribe(file, language="en", beam_size=1)
        text = "".join(one.text for one in segments).strip()  # computed as it is read
        return time.perf_counter() - start, text


if __name__ == "__main__":
    answer(Faster)
