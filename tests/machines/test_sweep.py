"""A real model on two and three machines of loopback, and every way to lose one: `make machines`.

It takes minutes, so `make test` leaves it out; `test_group` is the short form.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxrun.loading.ready import LEAST
from tests.server.process import SECONDS, Serving, command, serving
from tests.server.tiny import write_tiny

from .processes import HERE, mapped_weights, ranks, together, written
from .test_group import ASKED, answer, answered_again

pytestmark = [
    pytest.mark.skipif(not os.environ.get("MLXRUN_TEST_ALL"), reason="minutes: make machines"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
]
PROMPTS = ("The capital of France is", "Once upon a time, " * 60, "def f(a):", "1, 2, 3,", "Sea", "Rain", "A", "I")
Said = tuple[list[dict[str, Any]], int]  # by one process; and bytes of its weights in memory


@pytest.fixture(scope="module")
def expected(smollm2_gguf: Path) -> Said:
    with serving(str(smollm2_gguf), "--context", "512") as alone:
        return [answer(alone, prompt=prompt) for prompt in PROMPTS], mapped_weights(alone.process.pid)


@pytest.fixture(scope="module", params=[2, 3])
def group(request: pytest.FixtureRequest, smollm2_gguf: Path, tmp_path_factory: Any) -> Iterator[Serving]:
    file = written(tmp_path_factory.mktemp("machines"), request.param, silence=5.0)
    with together(smollm2_gguf, file, "--context", "512") as own:
        yield own


def test_clients_side_by_side_get_what_one_process_says(group: Serving, expected: Said) -> None:
    for _ in range(2):  # the second time from what was read before
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            said = list(pool.map(lambda prompt: answer(group, prompt=prompt), PROMPTS))
        assert said == expected[0]


def test_who_leaves_is_not_waited_for(group: Serving, expected: Said) -> None:
    body = {"prompt": "Once", "max_tokens": 3000, "stream": True}
    for _ in range(3):
        with httpx.stream("POST", f"{group.url}/v1/completions", json=body, timeout=SECONDS) as stream:
            next(stream.iter_lines())
    group.idle()
    assert answer(group, prompt=PROMPTS[0]) == expected[0][0]


def test_each_machine_has_its_share_in_memory_and_no_more(group: Serving, expected: Said) -> None:
    answer(group)
    own = [mapped_weights(pid) for pid in ranks(group)]
    whole, layer = expected[1], expected[1] / 30
    assert all(own) or whole / len(own) < LEAST, "a share that is smaller is packed in memory, and in no file"
    assert sum(own) <= 1.1 * whole
    assert max(own) <= 1.1 * whole / len(own) + layer


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_all_begin_anew_whoever_is_lost(rank: int, how: signal.Signals, tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny", 1024)
    config = json.loads((model / "config.json").read_text())
    with together(deeper(model, config, 3), written(tmp_path, 3, silence=3.0)) as own:
        before, old = answer(own), ranks(own)
        body = {**ASKED, "max_tokens": 900, "stream": True}
        told: list[Any] = []
        try:
            with httpx.stream("POST", f"{own.url}/v1/completions", json=body, timeout=SECONDS) as stream:
                lines = stream.iter_lines()
                next(lines)
                os.kill(old[rank], how)
                told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        except httpx.TransportError:
            assert rank == 0, "only who had the connection itself may break it"
        if rank:
            assert "begin anew" in told[-1]["error"]["message"]
        assert answered_again(own) == before
        assert not set(ranks(own)) & set(old)


def deeper(model: Path, config: dict[str, Any], layers: int) -> Path:
    """The same with its last layer once more."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    last = config["num_hidden_layers"] - 1
    for name in [name for name in weights if f".layers.{last}." in name]:
        for number in range(last + 1, layers):
            weights[name.replace(f".layers.{last}.", f".layers.{number}.")] = weights[name]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return model


def with_ssh(folder: Path, script: str) -> dict[str, str]:
    """An environment whose ssh is that script."""
    place = folder / "bin"
    place.mkdir()
    (place / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (place / "ssh").chmod(stat.S_IRWXU)
    return os.environ | {"PATH": f"{place}:{os.environ['PATH']}"}


def far(folder: Path, **more: Any) -> Path:
    file = folder / "far.json"
    file.write_text(json.dumps([HERE, {"ssh": "mini.local", "ips": ["127.0.0.1"], **more}]))
    return file


def test_a_host_that_ssh_does_not_reach_is_one_sentence(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny", 1024)
    asked = command(str(model), "--port", "0", "--machines", str(far(tmp_path)))
    ssh = with_ssh(tmp_path, "echo 'ssh: connect to host mini.local port 22: No route to host' >&2; exit 255")
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, env=ssh)
    assert ended.returncode not in (0, None)
    assert "mini.local (machine 1) ended with code 255" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_ssh_is_told_starts_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = with_ssh(tmp_path, 'for last; do :; done; echo "$@" | grep -q mini.local && exec sh -c "$last"')
    monkeypatch.setenv("PATH", ssh["PATH"])
    with together(write_tiny(tmp_path / "tiny", 1024), far(tmp_path)) as own:
        assert answer(own)["text"]
        assert any("layer 1 on mini.local" in line for line in own.said)


def test_another_model_over_there_is_one_sentence(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "here" / "tiny", 1024)
    deeper(write_tiny(tmp_path / "there" / "tiny", 1024), json.loads((model / "config.json").read_text()), 3)
    ssh = with_ssh(tmp_path, f'for last; do :; done; cd {tmp_path / "there"}; exec sh -c "${{last#*fi; }}"')
    asked = command("tiny", "--port", "0", "--machines", str(far(tmp_path)))
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, env=ssh, cwd=tmp_path / "here")
    assert ended.returncode == 2
    assert "mini.local (machine 1) has another model at that place" in ended.stderr
    assert "Traceback" not in ended.stderr
