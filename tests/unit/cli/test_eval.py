"""`mlxrun eval` from its outside, on a model of a hundred thousand random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxrun import cli
from tests.server.tiny import write_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), 1024)


def test_perplexity(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", str(tiny), "--tokens", "40"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("perplexity ")
    assert said.out.endswith(" on 39 tokens\n")


def test_both_ways_count_the_same_tokens(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A window's first token is predicted by nothing, and a window of one token is none."""
    for tokens, window in ((40, 512), (40, 7), (41, 8), (2, 2)):
        how = ["eval", str(tiny), "--tokens", str(tokens), "--window", str(window), "--json"]
        counts = []
        for more in ([], ["--against", str(tiny)]):
            assert cli.main([*how, *more]) == 0
            counts.append(json.loads(capsys.readouterr().out)["tokens"])
        assert counts[0] == counts[1]


def test_with_itself(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "t.txt"
    text.write_text("Ein kurzer Text über nichts.")
    assert cli.main(["eval", str(tiny), "--against", str(tiny), "--text", str(text), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kl"], found["top1"], found["tokens"]) == (0, 1, 28)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tokens", "1"], "--tokens must be at least 2"),
        (["--text", "/does/not/exist"], "cannot be read"),
        (["--window", "1"], "at least two tokens"),
    ],
)
def test_what_cannot_be(more: list[str], said: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", str(tiny), *more]) == 2
    assert said in capsys.readouterr().err
