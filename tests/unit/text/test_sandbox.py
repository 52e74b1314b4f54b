"""No chat template hangs, eats memory or reaches outside: each ends in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def results() -> dict[str, list[str]]:
    """All of them in one process, with 512 MiB more memory than it starts with and 120 seconds of CPU together."""
    done = subprocess.run(
        [sys.executable, hostile.__file__], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(hostile.ALL), f"died at {list(hostile.ALL)[len(lines)][:200]}: {done.stderr[-500:]}"
    return dict(zip(hostile.ALL, lines, strict=True))


@pytest.mark.parametrize("source", hostile.ALL, ids=lambda source: source[:60])
def test_hostile_template(results: dict[str, list[str]], source: str) -> None:
    kind, sentence = results[source]
    assert kind == "ModelError", sentence
    assert hostile.ALL[source] in sentence
    assert sentence.startswith("The chat template of This model ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
