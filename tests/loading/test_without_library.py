"""A model where there is no native library at all, as on every Mac: it loads, answers and says what it is without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from tests.golden.checkpoint import reference, write

ROOT = Path(__file__).resolve().parents[2]
COUNT = 6
SCRIPT = f"""
import sys, json
sys.modules["mlxrun.cpu_kernels._native"] = None
from mlxrun.core import Request, Sampling
from mlxrun.engine.engine import Engine
from mlxrun.loading import load_model
found = []
for place in sys.argv[1:]:
    engine = Engine.start(lambda: load_model(place))
    for sampling in (Sampling(temperature=0), Sampling(temperature=1, top_k=5, top_p=0.9, min_p=0.01, seed=7)):
        events = list(engine.submit(Request(tuple(range(5)), {COUNT}, sampling)))
        found.append([token for event in events for token in event.tokens])
    found.append(list(engine.model.notes))
    engine.close()
print(json.dumps(found))
"""
FAMILIES = ("llama", "gpt_oss")  # the layers of one can be a single native node, those of the other are not usual


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [write(reference(name).checkpoint(), tmp_path_factory.mktemp(name) / "model") for name in FAMILIES]


def test_it_answers_as_the_plain_path_with_a_library_does(places: list[Path]) -> None:
    command = [sys.executable, "-c", SCRIPT, *map(str, places)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for place, greedy, drawn, notes in zip(places, found[::3], found[1::3], found[2::3], strict=True):
        assert greedy == likeliest(place)
        assert len(drawn) == COUNT
        assert [note for note in notes if "many times slower" in note]


def likeliest(place: Path) -> list[int]:
    """By the same plain forms in this process, a token after the other."""
    model = load_model(place, options=LoadOptions(device=this_device(native=False)))
    sequence, ids, told = model.new_sequence(), list(range(5)), []
    for _ in range(COUNT):
        hidden = model(mx.array(ids, dtype=mx.int32), [(sequence, len(ids))])
        ids = [int(np.argmax(np.array(model.logits(hidden[-1:])[0].astype(mx.float32))))]
        told += ids
    return told
