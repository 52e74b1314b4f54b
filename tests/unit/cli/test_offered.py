"""Which models serve offers, and for how long they stay: told from flags and folders, nothing is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mlxrun.cli import serve
from mlxrun.cli.offered import Offered, offered, seconds_of
from mlxrun.core import RequestError
from mlxrun.settings import Settings
from mlxrun.store.folder import models_in


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "models"
    touch(own / "plain" / "config.json", own / "alone.gguf", own / "org" / "name" / "config.json")
    touch(own / "one-file" / "model-Q4_0.gguf", own / "two-files" / "a.gguf", own / "two-files" / "b.gguf")
    touch(*(own / "parts" / f"big-0000{n}-of-00002.gguf" for n in (1, 2)))
    touch(own / "plain.gguf", own / "mmproj-x.gguf", own / ".hidden" / "config.json", own / "readme.txt")
    touch(own / "org" / "deeper" / "still" / "config.json")
    return own


def test_the_models_of_a_folder(folder: Path) -> None:
    found = {name: str(place.relative_to(folder)) for name, place in models_in(folder).items()}
    assert found == {
        "plain": "plain",
        "plain.gguf": "plain.gguf",
        "alone": "alone.gguf",
        "one-file": "one-file/model-Q4_0.gguf",
        "two-files/a": "two-files/a.gguf",
        "two-files/b": "two-files/b.gguf",
        "parts": "parts/big-00001-of-00002.gguf",
        "org/name": "org/name",
    }
    assert models_in(folder / "gone") == {}


def offer(folder: Path, *words: str) -> Offered:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    return offered(parser.parse_args(list(words)), Settings(home=folder.parent / "home"), "smollm2")


def test_one_model_stays_for_ever_unless_somebody_says_otherwise(folder: Path) -> None:
    own = offer(folder, str(folder / "plain"))
    assert (own.first, own.names(), own.alone) == ("plain", ["plain"], True)
    assert (own.limits().keep, own.limits().pinned) == (None, {"plain"})
    own = offer(folder, str(folder / "plain"), "--keep-alive", "1m", "--name", "mine")
    assert (own.names(), own.limits().keep, own.limits().pinned) == (["mine"], 60.0, set())


def test_several_models(folder: Path) -> None:
    own = offer(folder, str(folder / "plain"), str(folder / "alone.gguf"), "--pin", "alone", "--max-models", "1")
    assert (own.first, own.names()) == ("plain", ["plain", "alone"])
    limits = own.limits()
    assert (limits.keep, limits.most, limits.pinned) == (300.0, 1, {"alone"})


def test_a_folder_of_models_is_looked_into_each_time(folder: Path) -> None:
    own = offer(folder, "--models-dir", str(folder), "--installed")
    assert (own.first, own.alone) == (None, False)
    before = set(own.names())
    assert before >= {"plain", "alone", "org/name"}
    touch(folder / "new" / "config.json")
    assert set(own.names()) - before == {"new"}
    assert offer(folder, str(folder / "plain"), "--models-dir", str(folder)).places()["plain"] == folder / "plain"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models-dir", "/no/such"], "--models-dir names /no/such, which is no folder."),
        (["{0}/plain", "--max-models", "0"], "--max-models must be a whole number from 1 on, not 0."),
        (["{0}/plain", "--pin", "other"], "--pin names 'other', which is none of the models that are offered."),
        (["{0}/plain", "{0}/plain/"], "Two of the models would be called 'plain'"),
        (["{0}/plain", "{0}/alone.gguf", "--name", "x"], "--name is for one model, and 2 are named."),
        (["--models-dir", "{0}", "--name", "x"], "--name is for one model, and 0 are named."),
        (["{0}/plain", "--keep-alive", "soon"], "--keep-alive must be a time such as 30s, 5m or 1h, or -1 for ever"),
    ],
)
def test_what_makes_no_sense(folder: Path, words: list[str], told: str) -> None:
    with pytest.raises(RequestError) as refused:
        offer(folder, *(word.format(folder) for word in words)).limits()
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("5m", 300.0), ("1.5h", 5400.0), ("90", 90.0), ("0", 0.0), ("-1", None)]
)
def test_times(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "-2", "5d", "1e3", "٣", "9" * 40])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RequestError):
        seconds_of(text)


def test_other_names(folder: Path) -> None:
    plain = str(folder / "plain")
    own = offer(folder, plain, str(folder / "alone.gguf"), "--alias", "gpt-4=alone", "--alias", "*")
    assert own.aliases() == {"gpt-4": "alone", "*": "plain"}
    assert offer(folder, plain, "--alias", "*=plain").aliases() == {"*": "plain"}
    for wrong in ("gpt-4", "=plain", "gpt-4=", "gpt-4=other", ""):
        with pytest.raises(RequestError, match="--alias"):
            offer(folder, plain, "--alias", wrong).aliases()
