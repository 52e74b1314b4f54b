"""`mlxrun embed` from its outside, on a BERT of a few thousand random weights."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxrun import cli
from tests.server.bert_reference import Reference
from tests.server.tiny_bert import CONTEXT, write_tiny_bert

GIVEN = """"a cat"

{"id": "x", "text": "a dog"}
{"id": 3, "text": "12", "more": [1]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "bert", matryoshka_dimensions=[8])


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Any:
    return np.stack([Reference(folder).mean(text) for text in ("a cat", "a dog", "12")])


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_text(GIVEN)
    return tmp_path / "in.jsonl"


def test_json_lines_on_stdout(folder: Path, lines: Path, wanted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["embed", str(folder), str(lines)]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.get("id") for one in told] == [None, "x", 3]
    np.testing.assert_allclose([one["embedding"] for one in told], wanted, atol=1e-6)


def test_several_files_and_stdin_into_an_array(
    folder: Path, lines: Path, wanted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = lines.with_name("out.npy")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"words": "a cat"}\n')))
    lines.write_text('"a dog"\n{"words": "12"}')
    assert cli.main(["embed", str(folder), "-", str(lines), "--field", "words", "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err.strip().splitlines()[-1]) == ("", f"3 vectors in {output}")
    found = np.load(output)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_cut_vectors_and_texts_in_a_file_of_lines(folder: Path, lines: Path) -> None:
    output = lines.with_name("out.jsonl")
    lines.write_text(json.dumps("long " * CONTEXT))
    how = ["embed", str(folder), str(lines), "--dimensions", "8", "--truncate", "-o", str(output)]
    assert cli.main(how) == 0
    (line,) = output.read_text().splitlines()
    assert len(json.loads(line)["embedding"]) == 8
    assert cli.main(how) == 2  # what is there is not written over


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (
            b'"a"\n{"text": 5}\n',
            [],
            "in.jsonl, line 2: 'text' is missing or no text; each line must be a text in quotes",
        ),
        (b'"a"\n\n["b"]\n', [], "in.jsonl, line 3: it is no text; each line must be"),
        (b"a cat\n", [], "in.jsonl, line 1: it is not JSON; each line must be a text in quotes, or an object with"),
        (b'"\xff"', [], "in.jsonl, line 1: it is not UTF-8."),
        (b'"a"\n""', [], "in.jsonl, line 2: the text is empty, and has no vector."),
        (b"\n \n", [], "There is no line to embed."),
        (b'"a"', ["--dimensions", "7"], "--dimensions must be 8, 32, which"),
        (b'"a"', ["--prompt", "query"], "This model has no prompt 'query'; it has none."),
        (b'"a"', ["-o", "out.csv"], "--output must end in .npy or .jsonl, not 'out.csv'."),
        (b'"a"', ["-o", "/no/such/out.npy"], "--output: there is no folder /no/such."),
        (
            b'"a"\n"' + b"long " * CONTEXT + b'"',
            [],
            f"line 2: the text is longer than the {CONTEXT} tokens that this model reads; --truncate cuts it.",
        ),
    ],
)
def test_what_is_wrong_is_named(
    given: bytes, more: list[str], said: str, folder: Path, lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.write_bytes(given)
    assert cli.main(["embed", str(folder), str(lines), *more]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_a_file_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["embed", str(folder), "/no/such.jsonl"]) == 2
    assert "/no/such.jsonl: No such file or directory." in capsys.readouterr().err


def test_a_model_that_gives_none(tmp_path: Path, lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_bert(tmp_path / "m", "mean_sqrt_len_tokens")
    assert cli.main(["embed", str(folder), str(lines)]) == 2
    assert "gives no embeddings here: 1_Pooling/config.json asks for a pooling" in capsys.readouterr().err
