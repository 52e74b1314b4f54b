"""The file under a server is cut short while it answers: it says so, it lives, and the next one mends it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlxrun.ops.device import this_device

from .process import SECONDS, Serving, serving

GIB = 2**30
PROMPT = {"prompt": "Once upon a time", "max_tokens": 2000, "temperature": 0, "stream": True}

pytestmark = pytest.mark.skipif(not this_device().native, reason="no native kernels here, so nothing is packed or kept")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.disk_usage(tmp_path).free < 2 * GIB:
        pytest.skip("less than 2 GiB of disk are free")
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    return tmp_path


def frames(server: Serving) -> Iterator[dict[str, object]]:
    with httpx.stream("POST", f"{server.url}/v1/completions", json=PROMPT, timeout=SECONDS) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def kept(home: Path) -> Path:
    (file,) = (home / "ready").glob("*.ready.safetensors")
    return file


def test_a_ready_file_that_is_cut_short_while_a_stream_runs(smollm2_gguf: Path, home: Path) -> None:
    with serving(str(smollm2_gguf)) as server:
        whole = kept(home).read_bytes()
        stream = frames(server)
        assert "choices" in next(stream)
        os.truncate(kept(home), len(whole) // 2)
        last = list(stream)[-1]
        said = str(last["error"])  # whichever of the two is noticed first
        assert "could not be read" in said or "has changed on disk" in said
        assert not list((home / "ready").glob("*.ready.safetensors"))
        again = server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        assert again.status_code == 200, again.text  # loaded anew
        assert kept(home).read_bytes() == whole
        assert httpx.get(f"{server.url}/health", timeout=SECONDS).status_code == 200
        assert server.process.poll() is None
        server.stop()
    with serving(str(smollm2_gguf)) as server:
        assert server.answers()
        assert kept(home).read_bytes() == whole
