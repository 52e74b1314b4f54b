"""Adapters in the terminal: whose they are, what they take, and which flags go together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlxrun import cli
from tests.adapters.made import drawn_pairs, stored, write_peft
from tests.server.tiny import write_tiny


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "home"))
    return write_tiny(tmp_path / "tiny", 256)


def adapter(tiny: Path, name: str = "poet", **config: object) -> Path:
    folder = tiny.parent / "adapters" / name
    return write_peft(folder, drawn_pairs(stored(tiny)), base_model_name_or_path="org/base", **config)


def digest_of(folder: Path) -> str:
    """Of the digests of both files, in their order."""
    files = (folder / "adapter_config.json", folder / "adapter_model.safetensors")
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def test_show_tells_base_and_digest(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = adapter(tiny)
    assert cli.main(["show", str(place)]) == 0
    told = capsys.readouterr().out
    assert "org/base" in told
    assert digest_of(place) in told
    assert "2 q_proj" in told
    assert cli.main(["show", str(place), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["base"], facts["digest"], facts["ranks"]) == ("org/base", digest_of(place), [3])
    assert facts["bytes"] == sum(4 * (p.a.size + p.b.size) for p in drawn_pairs(stored(tiny)).values())


def test_list_tells_those_of_a_folder(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, broken = adapter(tiny), adapter(tiny, "broken", r=99)
    (place.parent / "notes").mkdir()
    assert cli.main(["list", "--adapters", str(place.parent)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == [broken.name, place.name]
    assert "has rank 99; its tensors have 3" in rows[0]
    assert "org/base" in rows[1]
    assert digest_of(place)[:12] in rows[1]
    assert cli.main(["list", "--adapters", str(place.parent), "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["poet", "broken"]
    assert cli.main(["list", "--adapters", str(place / "nowhere")]) == 2


def test_fit_has_their_bytes(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = adapter(tiny)
    told = []
    for flags in ([], ["--adapter", str(place)]):
        assert cli.main(["fit", str(tiny), "--json", *flags]) == 0
        told.append(json.loads(capsys.readouterr().out)["weights"])
    more = told[1]["kinds"]["adapters"]
    assert "adapters" not in told[0]["kinds"]
    assert told[1]["bytes"] - told[0]["bytes"] == more
    assert more >= sum(4 * (p.a.size + p.b.size) for p in drawn_pairs(stored(tiny)).values())


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--adapter-dir", "{tiny}/nowhere"], "--adapter-dir names"),
        (["--max-adapters", "0"], "--max-adapters must be a whole number from 1 on"),
    ],
)
def test_serve_refuses(tiny: Path, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [flag.replace("{tiny}", str(tiny)) for flag in flags]
    assert cli.main(["serve", str(tiny), "--port", "0", *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["~nobody/x", "a\0b", "n" * 5000])
def test_a_place_that_cannot_be_is_a_sentence(tiny: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tiny.parent / "out")
    for command in (
        ["show", name],
        ["list", "--adapters", name],
        ["fit", str(tiny), "--adapter", name],
        ["convert", str(tiny), "-o", out, "--adapter", name],
        ["serve", str(tiny), "--port", "0", "--adapter-dir", name],
    ):
        assert cli.main(command) in (1, 2)
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert told.strip()
