"""What the tests of text share: a corpus to train small tokenizers on, and files to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog did not mind at all.",
    "Zürich, Genève and Þingvellir are names; naïve façade, 12345 and 67890 are not.",
    "for (int i = 0; i < 10; ++i) { total += prices[i] * 1.08; }  // two  spaces",
    "Wer reitet so spät durch Nacht und Wind? Es ist der Vater mit seinem Kind.",
    "漢字かな交じり文と、한국어와 русский текст.",
] * 20
SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>"]


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
