"""`mlxrun fit --machines`: what each machine would have, told from headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxrun.cli import main
from tests.server.tiny import write_tiny

from .processes import HERE


def asked(folder: Path, capsys: pytest.CaptureFixture[str], *hosts: Any) -> tuple[int, str, str]:
    file = folder / "machines.json"
    file.write_text(json.dumps(list(hosts)))
    model = write_tiny(folder / "tiny", 1024)
    code = main(["fit", str(model), "--machines", str(file), "--json"])
    return code, *capsys.readouterr()


def test_every_layer_and_byte_is_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(tmp_path, capsys, HERE, {"ssh": "mini", "ips": ["10.0.0.2"], "memory": "2GB"})
    told = json.loads(out)
    assert (code, told["fits"], told["context"]) == (0, True, 1024)
    assert [share["layers"] for share in told["machines"]] == [[0, 1], [1, 2]]
    assert told["machines"][1]["usable"] == 2 * 10**9
    assert main(["fit", str(tmp_path / "tiny"), "--context", "1024", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    for part in ("weights", "cache"):
        assert sum(share[part] for share in told["machines"]) == whole[part]["bytes"]


def test_what_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(tmp_path, capsys, HERE, {"ssh": "mini", "ips": ["10.0.0.2"], "memory": "1MB"})
    assert code == 1
    assert [share["fits"] for share in json.loads(out)["machines"]] == [True, False]
    assert main(["fit", str(tmp_path / "tiny"), "--machines", str(tmp_path / "machines.json")]) == 1
    assert "does not fit 2 machines with a context of 1024 tokens" in capsys.readouterr().out


def test_macs_are_planned_as_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mac = {"ssh": "mini", "ips": ["10.0.0.2"], "machine": "M4 Pro 24GB"}
    code, out, _ = asked(tmp_path, capsys, mac, {**mac, "machine": "M4 32GB"})
    assert code == 0
    assert json.loads(out)["machines"][0]["usable"] < 24 * 2**30


def test_a_host_of_which_nothing_is_known_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = asked(tmp_path, capsys, HERE, {"ssh": "mini", "ips": ["10.0.0.2"]})
    assert code == 2
    assert 'mini: fit asks no host, so its entry must have its "memory"' in told
