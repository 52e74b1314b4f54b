"""What the first machine decides, and what it refuses before anybody is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxrun.cli import together
from mlxrun.cli.serve import usual_flags
from mlxrun.core import RequestError
from mlxrun.loading import LoadOptions, open_model
from mlxrun.machines.lead import check, fuller, memories_of, shares
from mlxrun.machines.messages import Hello, ShareLoaded
from mlxrun.spec import ModelError
from tests.golden.checkpoint import reference, write


def hello(node: str, usable: int) -> Hello:
    return Hello(1, 1, "", "", node, usable, "", "")


def test_ranks_of_one_machine_share_its_memory() -> None:
    assert memories_of([hello("a", 90), hello("b", 40), hello("a", 80)]) == [45, 40, 40]


def test_a_prompt_is_reckoned_as_full_as_it_makes_the_fullest_machine() -> None:
    mine = ShareLoaded(512, "float32", held=10, room=100)
    assert fuller(ShareLoaded(512, "float32", held=30, room=100), mine) == pytest.approx(3.0)
    assert fuller(ShareLoaded(512, "float32", held=10, room=0), mine) == 1.0


def test_more_memory_means_more_layers(tmp_path: Path) -> None:
    opened = open_model(write(reference("llama").checkpoint(), tmp_path))
    count = len(opened.recipe.decoder.layers)
    assert shares(opened, None, [1 << 30, 1 << 20]) == [range(count - 1), range(count - 1, count)]
    assert shares(opened, None, [1 << 20, 1 << 30]) == [range(1), range(1, count)]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"model": ["a", "b"]}, "name one, not 2"),
        ({"installed": True}, "leave out --installed"),
        ({"models_dir": Path("x")}, "leave out --models-dir"),
        ({"allow_pull": True}, "leave out --allow-pull"),
        ({"keep_alive": "5m"}, "leave out --keep-alive"),
        ({"adapter": ["a"]}, "leave out --adapter"),
    ],
)
def test_flags_that_do_not_go_with_it(flags: dict[str, Any], why: str) -> None:
    given = usual_flags()
    vars(given).update(flags)
    with pytest.raises(RequestError, match=f"--machines serves one model: {why}"):
        together.check(given)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"experts_on_disk": True}, "--experts-on-disk is not there"),
        ({"draft_heads": True}, "--draft is not there"),
        ({"adapters": (("a", Path("x")),)}, "--adapter is not there"),
    ],
)
def test_loads_that_do_not_go_with_it(how: dict[str, Any], why: str, tmp_path: Path) -> None:
    opened = open_model(write(reference("llama").checkpoint(), tmp_path))
    check(opened, LoadOptions())
    with pytest.raises(RequestError, match=why):
        check(opened, LoadOptions(**how))


def test_a_model_that_cannot_be_cut_is_told(tmp_path: Path) -> None:
    opened = open_model(write(reference("bert").checkpoint(), tmp_path))
    with pytest.raises(ModelError, match="an encoder is not run on several machines here; serve it on one machine"):
        check(opened, LoadOptions())


def test_a_process_that_is_not_told_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(together.CHILD, raising=False)
    assert together.told() is None
    monkeypatch.setenv(together.CHILD, "1")

    class Input:
        class buffer:
            @staticmethod
            def readline(most: int) -> bytes:
                return b'{"kind": "ping", "number": 1}\n'

    monkeypatch.setattr("sys.stdin", Input)
    with pytest.raises(RequestError, match="standard input does not say which machine this is"):
        together.told()
