"""The settings of serve in a file: what they may be, and that flags go before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxrun.cli import serve, serve_file
from mlxrun.core import RequestError

WHOLE = """
model = ["smollm2", "/models/other"]
port = [8080, 11434]
allow-origin = ["apps"]
keep_alive = "10m"
grace = 5
strict = true
models_dir = "/models"
[alias]
gpt-4o-mini = "smollm2"
"*" = "smollm2"
"""


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    place = folder / "serve.toml"
    place.write_text(text)
    place.chmod(mode)
    return place


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    usual = serve.usual_flags()
    flags = serve.usual_flags()
    flags.port, flags.grace = [9000], 1.0
    laid = serve_file.laid_under(flags, usual, serve_file.read(written(tmp_path, WHOLE)))
    assert (laid.port, laid.grace) == ([9000], 1.0)
    assert (laid.model, laid.strict, laid.keep_alive) == (["smollm2", "/models/other"], True, "10m")
    assert (laid.allow_origin, laid.models_dir) == (["apps"], Path("/models"))
    assert laid.alias == ["gpt-4o-mini=smollm2", "*=smollm2"]
    assert flags.model == []


def test_no_file_sets_nothing(tmp_path: Path) -> None:
    assert serve_file.read(tmp_path / "none.toml") == {}


def test_every_setting_is_a_flag() -> None:
    assert set(serve_file.KNOWN) <= set(vars(serve.usual_flags()))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_could_read(mode: int, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds a key and others may read it: chmod 600"):
        serve_file.read(written(tmp_path, 'key = "secret"', mode))
    assert serve_file.read(written(tmp_path, 'key = "secret"', 0o600)) == {"key": "secret"}
    assert serve_file.read(written(tmp_path, "port = 8081", mode)) == {"port": [8081]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = ", "cannot be read as settings"),
        ("\xff", "cannot be read as settings"),
        ("prot = 8080", "'prot', which is not known"),
        ('port = "8080"', "port must be a list of numbers"),
        ("port = [true]", "port must be a list of numbers"),
        ("model = [1]", "model must be a list of texts"),
        ('grace = "5"', "grace must be a number"),
        ("max_concurrent = 1.5", "max_concurrent must be a whole number"),
        ("max_concurrent = true", "max_concurrent must be a whole number"),
        ("strict = 1", "strict must be true or false"),
        ("alias = 1", "alias must be a table"),
        ("[alias]\na = 1", "each alias must name a model"),
    ],
)
def test_what_the_file_may_not_say(text: str, told: str, tmp_path: Path) -> None:
    place = tmp_path / "serve.toml"
    place.write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match=told) as refused:
        serve_file.read(place)
    assert str(place) in str(refused.value)


def test_where_it_lies(tmp_path: Path) -> None:
    assert serve_file.place({"MLXRUN_SERVE_FILE": "/etc/x.toml"}, "linux") == Path("/etc/x.toml")
    assert serve_file.place({"XDG_CONFIG_HOME": "/c"}, "linux") == Path("/c/mlxrun/serve.toml")
    assert serve_file.place({}, "linux") == Path.home() / ".config/mlxrun/serve.toml"
    assert serve_file.place({}, "darwin") == Path.home() / "Library/Application Support/mlxrun/serve.toml"
