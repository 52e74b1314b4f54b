"""Importing the room costs little: the heavy packages come with the first model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("tokenizers", "sentencepiece", "jinja2", "mlx", "numpy", "transformers")


def test_no_heavy_package_is_imported() -> None:
    code = (
        "import sys\n"
        "from mlxrun.text import gguf, hub, reasoning_formats, router, sentence, stops, template, tokenizer\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
