"""Models with something wrong in them, through whole commands: success, or one sentence and exit code 2."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxrun import cli
from mlxrun.assistant import recommended, template_of, tokenizer_of
from mlxrun.core import RequestError
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.unit.cli import wrong_files
from tests.unit.cli.wrong_files import METADATA, NAMES, SHAPES, Folder, write_gguf, wrong_gguf

MANY = 25  # of each kind; by hand, 10,000 were tried


def told(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr; one line where the command failed."""
    code = cli.main(arguments)
    said = capsys.readouterr().err
    if code:
        assert code == 2, said
        assert said.startswith("mlxrun: "), said
        assert said.endswith(".\n"), said
        assert said[:-1].isprintable(), said
        assert len(said) < 1100, said
    return said


def speaks(place: Path) -> None:
    """As whoever opens a chat with it does."""
    try:
        opened = open_checkpoint(place)
        tokenizer, template = tokenizer_of(opened), template_of(opened)
        recommended(opened)
        tokenizer.encode(template.render([{"role": "user", "content": "ab"}]), special=True)
    except (ModelError, RequestError) as refused:
        error = str(refused)
    else:
        error = ""
    assert error.isprintable() or not error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("folder") / "tiny")


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_wrong_model_is_a_sentence(
    kind: str, folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(kind)
    make: Callable[[], Path] = (
        (lambda: folder.wrong(chance)) if kind == "folder" else (lambda: wrong_gguf(tmp_path / "m.gguf", chance))
    )
    for number in range(MANY):
        place = make()
        told(("show", "fit")[number % 2], str(place), capsys=capsys)
        speaks(place)


def test_what_is_made_here_is_right_where_nothing_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(tmp_path / "m.gguf", METADATA)
    for command in ("show", "fit"):
        assert told(command, str(file), capsys=capsys) == ""
    speaks(file)


@pytest.mark.parametrize("name", NAMES[:5], ids=range(5))
def test_a_tensor_of_a_layer_that_is_not_there(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(tmp_path / "m.gguf", METADATA, {**SHAPES, name: (wrong_files.DIM,) * 2})
    for command in ("show", "fit"):
        said = told(command, str(file), capsys=capsys)
        assert "This model has 2 layers, but the checkpoint has a weight of another one: 'layers." in said


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("head_count_kv", 3, "4 attention heads cannot share 3"),
        ("head_count_kv", 4, r"blk.0.attn_k.weight has 16 rows; this model needs 4 heads of 8."),
        ("head_count", "many", "llama.attention.head_count must be a whole number"),
    ],
)
def test_heads_that_the_rows_are_not_of(
    key: str, value: object, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_gguf(tmp_path / "m.gguf", {**METADATA, f"llama.attention.{key}": value})
    assert reason in told("convert", str(file), "-o", str(tmp_path / "out"), capsys=capsys)
    assert [place.name for place in tmp_path.iterdir()] == ["m.gguf"]


def test_a_vocabulary_of_no_kind(tmp_path: Path) -> None:
    for key in ("model", "pre"):
        file = write_gguf(tmp_path / "m.gguf", {**METADATA, f"tokenizer.ggml.{key}": ["gpt2"]})
        with pytest.raises(ModelError, match=rf"tokenizer.ggml.{key} is \['gpt2'\]; known are"):
            tokenizer_of(open_checkpoint(file))
